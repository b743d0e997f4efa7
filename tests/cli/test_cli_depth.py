"""Reliance at depth through the command line: measured, gated, rendered, or left out with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from salve_audit.cli.app import run

QUICK = [
    "--sae",
    "linear-l1",
    "--n-latents",
    "8",
    "--sae-seeds",
    "1",
    "--interventions",
    "salve",
    "--deep-edits",
    "off",
]


@pytest.fixture(scope="module")
def audited(colour_model: Path, colour_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("deep")
    options = [*QUICK, "--out", place / "out", "--cache", place / "cache", "--format", "html,json", "--quiet"]
    options += ["--fail-over-reliance", "1", "--fail-under-redundancy", "1"]
    assert run([str(one) for one in (colour_model, colour_data, *options)]) == 0
    return place


def test_every_class_has_its_reliance_at_depth(audited: Path) -> None:
    audit = json.loads((audited / "out" / "audit.json").read_text())
    assert audit["depth"]["why_absent"] == ""
    assert audit["verdict"]["policy"] == "fail under a redundancy of 1; fail over a reliance of 1"
    assert len(audit["verdict"]["rules"]) == 6
    for one in audit["classes"]:
        found = one["depth"]
        assert found["n"] == 32
        assert 0 <= found["low"] <= found["reliance"] <= found["high"] <= 1
        assert found["n_correct"] == one["n_correct"]
        if found["concept"] is not None:
            concept = audit["concepts"][found["concept"]]
            own = next(each for each in concept["effect"] if each["class"] == one["name"])
            assert own["drop"] == found["reliance"]
    page = (audited / "out" / "report.html").read_text()
    assert "What the classes rest on in the picture" in page
    assert "taken out" in page


def test_two_runs_give_the_same_bytes(
    salve: Callable, audited: Path, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    options = [*QUICK, "--cache", audited / "cache", "--format", "json", "--quiet"]
    found = []
    for name in "ab":
        done = salve(colour_model, colour_data, *options, "--out", tmp_path / name)
        assert done.code == 0, done.err
        audit = json.loads((tmp_path / name / "audit.json").read_text())
        found.append({**audit, "created": ""})
    assert found[0] == found[1]


def test_limits_at_depth_decide_the_exit_code(salve: Callable, audited: Path) -> None:
    audit = json.loads((audited / "out" / "audit.json").read_text())
    highest = max(one["depth"]["high"] for one in audit["classes"])
    below = min(one["depth"]["low"] for one in audit["classes"]) - 1e-6
    assert salve("gate", audited / "out", "--fail-over-reliance", min(1, highest)).code == 0
    if below >= 0:
        done = salve("gate", audited / "out", "--fail-over-reliance", below)
        assert done.code == 1
        assert "fragile (whole interval beyond the limit): blue, green, red" in done.out
    assert salve("gate", audited / "out", "--fail-under-redundancy", 0).code == 2
    done = salve("gate", audited / "out", "--fail-over-reliance", 2)
    assert (done.code, done.err) == (2, "error: fail_over_reliance: 2.0 is not between 0 and 1\n")


def test_arrays_have_no_depth_and_a_limit_on_it_is_exit_2(salve: Callable, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    acts = (rng.random((120, 8)) + 2 * np.eye(8)[labels]).astype(np.float32)
    arrays = {"weight": np.eye(3, 8, dtype=np.float32), "bias": np.zeros(3, np.float32)}
    np.savez(tmp_path / "a.npz", acts=acts, labels=labels, **arrays)
    options = [*QUICK, "--format", "html,json", "--out", tmp_path / "out", "--quiet"]
    done = salve(tmp_path / "a.npz", *options, "--fail-over-reliance", 0.5)
    assert done.code == 2
    assert (
        "error: --fail-over-reliance: no class could be judged: reliance at depth was not measured (activ" in done.err
    )
    assert "Not measured: activations were audited" in (tmp_path / "out" / "report.html").read_text()


def test_a_limit_and_depth_turned_off_exclude_each_other(
    salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = salve(colour_model, colour_data, "--depth", "off", "--fail-over-reliance", 0.5, "--out", out)
    assert done.code == 2
    assert "error: depth: is off, but a limit on redundancy or reliance at depth needs it" in done.err
    assert not out.exists()


def test_named_layers_are_looked_at_and_the_first_tells_concepts_apart(
    salve: Callable, audited: Path, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    known = json.loads((audited / "out" / "audit.json").read_text())
    (layer,) = known["depth"]["layers"]
    options = [*QUICK, "--cache", audited / "cache", "--format", "json", "--quiet", "--no-images"]
    other = _another_layer(salve, colour_model, colour_data, tmp_path)
    done = salve(colour_model, colour_data, *options, "--depth-layers", f"{layer},{other}", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert found["depth"]["layers"] == [layer, other]
    assert [one["depth"]["reliance"] for one in found["classes"]] == [
        one["depth"]["reliance"] for one in known["classes"]
    ]
    places = [one["index"] for one in found["concepts"] if one["kind"] == "place"]
    resting = {one["depth"]["concept"] for one in found["classes"]} & set(places)
    for concept in found["concepts"]:
        at = [removal["layer"] for removal in concept["removals"]]
        assert at == ([layer, other] if concept["index"] in resting else [])
    assert (tmp_path / "out" / "concepts.safetensors").is_file()


def _another_layer(salve: Callable, model: Path, data: Path, place: Path) -> str:
    """The last one that a wrong name is answered with."""
    done = salve(model, data, *QUICK, "--depth-layers", "nowhere", "--out", place / "none", "--no-cache")
    assert done.code == 2
    assert "has no module 'nowhere'" in done.err
    assert not (place / "none").exists()
    return str(done.err.split("spatial layers there: ")[1].split("\n")[0].split(", ")[-1])


def test_layers_and_depth_turned_off_exclude_each_other(
    salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    done = salve(colour_model, colour_data, "--depth", "off", "--depth-layers", "layer1", "--out", tmp_path / "out")
    assert done.code == 2
    assert "error: depth_layers: are named, but depth is off" in done.err


def test_pictures_of_concepts_have_heat_maps_of_their_own(audited: Path) -> None:
    audit = json.loads((audited / "out" / "audit.json").read_text())
    images = [image for concept in audit["concepts"] if concept["kind"] == "place" for image in concept["images"]]
    assert images
    for image in images:
        sizes = {(image[part]["width"], image[part]["height"]) for part in ("outlined", "without", "heat")}
        assert len(sizes) == 1
        assert image["heat"]["jpeg"] not in (image["outlined"]["jpeg"], image["without"]["jpeg"])
