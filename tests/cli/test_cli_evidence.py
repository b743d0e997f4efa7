"""Image reliance through the command line: measured, gated, rendered, or left out with the reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from quick_audits import ONE_SEED as QUICK

from salve_audit.evidence.factors.bank import FACTORS, KINDS
from salve_audit.results import parse_audit

REPORTED = ["--format", "html,json", "--quiet"]
LIMITS = ["--fail-over-reliance", "1", "--fail-under-redundancy", "1"]

pytestmark = pytest.mark.slow


@pytest.fixture
def audited(audit_colours: Callable) -> Path:
    return audit_colours("evidence_audit", *QUICK, *REPORTED, *LIMITS)


def test_every_class_has_its_image_reliance(audited: Path) -> None:
    audit = json.loads((audited / "out" / "audit.json").read_text())
    assert audit["evidence"]["why_absent"] == ""
    assert audit["evidence"]["layer"]
    assert audit["verdict"]["policy"] == "image reliance at most 1; redundancy in the image at least 1"
    assert len(audit["verdict"]["rules"]) == 6
    for audited_class in audit["classes"]:
        reliance = audited_class["image_reliance"]
        assert reliance["n"] in (30, 32)  # two more where the first round does not decide
        assert 0 <= reliance["low"] <= reliance["reliance"] <= reliance["high"] <= 1
        assert 0 <= reliance["chance_low"] <= reliance["chance"] <= reliance["chance_high"] <= 1
        assert reliance["n_correct"] <= min(reliance["n"], audited_class["n_correct"])
        _check_factors(reliance)
        if reliance["concept"] is None:
            assert reliance["kind"] is None
        else:
            concept = audit["concepts"][reliance["concept"]]
            own = next(effect for effect in concept["effect"] if effect["class"] == audited_class["name"])
            assert own["drop"] == reliance["reliance"]
            assert concept["kind"] == reliance["kind"]
    check_lost_images(audited / "out")
    page = (audited / "out" / "report.html").read_text()
    assert "Images lost when the one thing that each class depends on most is removed" in page
    assert "removed" in page


def check_lost_images(out: Path) -> None:
    """samples.parquet says of each examined image whether the strongest removal lost it: image reliance is the mean."""
    audit, table = parse_audit((out / "audit.json").read_text()), pd.read_parquet(out / "samples.parquet")
    for record in audit.classes:
        reliance, own = record.image_reliance, table[table.label == record.name]
        assert reliance is not None
        examined = own[own.lost.notna()]
        assert examined.lost.mean() == pytest.approx(reliance.reliance)
        assert not examined.lost[~examined.correct].any()
        assert own.removed[own.lost.isna()].isna().all()
        if reliance.concept is not None:
            concept = audit.concepts[reliance.concept]
            assert set(examined.removed) == {concept.factor or f"concept {concept.index}"}


def _check_factors(reliance: dict[str, Any]) -> None:
    """Every global factor was removed, and the class depends on one only where it is beyond chance."""
    factors = {factor["name"]: factor for factor in reliance["factors"]}
    assert set(factors) == set(FACTORS)
    for name, factor in factors.items():
        assert factor["kind"] == FACTORS[name].kind
        assert (factor["excess"] is None) == (FACTORS[name].remove is None)
        if factor["excess"] is not None:
            assert 0 <= factor["low"] <= factor["removed"] <= factor["high"] <= 1
            assert factor["excess_low"] <= factor["excess"] <= factor["excess_high"]
        assert factor["inserted"] is None or FACTORS[name].insert is not None
    if reliance["kind"] in KINDS:
        assert any(
            factor["kind"] == reliance["kind"] and (factor["excess_low"] or 0) > 0 for factor in factors.values()
        )


def test_concepts_have_looks_and_the_data_are_checked(salve: Callable, audited: Path, tmp_path: Path) -> None:
    audit = json.loads((audited / "out" / "audit.json").read_text())
    regions = [concept for concept in audit["concepts"] if concept["kind"] == "region"]
    assert regions
    for concept in regions:
        assert concept["look"]["values"]
        assert len(concept["look"]["places"].split()) == min(16, concept["n_images"])
        if concept["properties"] is not None:
            assert -1 <= concept["properties"]["alike"] <= 1
            assert concept["properties"]["place_spread"] >= 0
    check = audit["data_check"]
    assert check["why_absent"] == ""
    assert {cue["class"] for cue in check["cues"] if cue["kind"] == "colour"}  # the classes are colours
    listed = salve("review", audited / "out", "--list", "--least", "0", "--file", tmp_path / "none.toml")
    assert listed.code == 0, listed.err


def write_manifest(images: Path, folder: Path, column: str, value: str) -> Path:
    """A copy of the image folders with a table of them, which has one column more."""
    shutil.copytree(images, folder)
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    rows = [f"{path.as_posix()},{path.parts[1]},{path.parts[0]},{value.format(path=path.as_posix())}" for path in paths]
    table = folder / "list.csv"
    table.write_text("\n".join([f"path,label,split,{column}", *rows]))
    return table


def test_boxes_in_a_manifest_say_what_is_background(
    salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    table = write_manifest(colour_data, tmp_path / "data", "bbox", "12 12 20 20")
    options = [*QUICK, "--format", "json", "--quiet", "--no-cache", "--out", tmp_path / "out"]
    done = salve(colour_model, table, *options)
    assert done.code == 0, done.err
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    for part in audit["classes"]:
        factors = {factor["name"]: factor for factor in part["image_reliance"]["factors"]}
        assert factors["background"]["removed"] > factors["object"]["removed"]  # the colour is everywhere
        assert factors["background"]["excess_low"] > 0
        assert factors["background"]["inserted"] > 0.5
    check_lost_images(tmp_path / "out")
    listed = salve("review", tmp_path / "out", "--list", "--file", tmp_path / "none.toml")
    assert "background" in listed.out
    assert "object" not in listed.out


def test_masks_that_are_not_there_are_named(
    salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    table = write_manifest(colour_data, tmp_path / "data", "mask", "masks/{path}")
    done = salve(colour_model, table, *QUICK, "--format", "json", "-q", "--no-cache", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert "of the images examined have no mask that can be read ('val/" in done.err


def test_an_image_is_explained_with_global_factors_as_well(
    salve: Callable, audited: Path, colour_model: Path, colour_data: Path
) -> None:
    image, audit = colour_data / "val" / "red" / "003.png", audited / "out"
    done = salve("explain", colour_model, image, audit, "--format", "json", "--insert", "blue")
    assert done.code == 0, done.err
    (entry,) = json.loads(done.out)
    removed = {factor["name"]: factor for factor in entry["factors"]["removed"]}
    assert set(removed) == {name for name, factor in FACTORS.items() if factor.remove is not None}
    assert entry["factors"]["complete"]
    assert removed["colour"]["of_class"] is not None
    assert removed["colour"]["predicted"] != "red"  # the classes are colours
    turned = {factor["name"]: factor["predicted"] for factor in entry["factors"]["inserted"]}
    assert turned["colour"] == "blue"
    assert "border" not in turned  # its strips come from images that are not at hand
    text = salve("explain", colour_model, image, audit, "--insert", "blue").out
    assert "Without one of these global factors the prediction is no longer red" in text
    assert "alone the image becomes blue" in text
    wrong = salve("explain", colour_model, image, audit, "--insert", "nobody")
    assert wrong.code == 2
    assert "the audit has no such class" in wrong.err


def test_two_runs_give_the_same_bytes(
    salve: Callable, audited: Path, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    options = [*QUICK, *REPORTED, *LIMITS, "--cache", audited / "cache", "--out", tmp_path / "out"]
    assert salve(colour_model, colour_data, *options).code == 0
    first, again = (json.loads((place / "out" / "audit.json").read_text()) for place in (audited, tmp_path))
    assert {**first, "created": ""} == {**again, "created": ""}


def test_limits_on_image_reliance_decide_the_exit_code(salve: Callable, audited: Path, tmp_path: Path) -> None:
    audit = json.loads((audited / "out" / "audit.json").read_text())
    highest = max(audited_class["image_reliance"]["high"] for audited_class in audit["classes"])
    assert salve("gate", audited / "out", "--fail-over-reliance", min(1, highest)).code == 0
    for audited_class in audit["classes"]:  # whatever was measured: intervals that a limit can lie below and within
        bounds = {"low": 0.4, "reliance": 0.5, "high": 0.6, "chance": 0.0, "chance_low": 0.0, "chance_high": 0.05}
        audited_class["image_reliance"] |= {**bounds, "concept": None, "factors": []}
    (tmp_path / "audit.json").write_text(parse_audit(json.dumps({**audit, "concepts": []})).to_json())
    done = salve("gate", tmp_path, "--fail-over-reliance", 0.39)
    assert done.code == 1
    for name in ("blue", "green", "red"):
        assert f"  violated: {name}: image reliance at most 0.39; 0.5 [0.4, 0.6]\n" in done.out
    assert salve("gate", tmp_path, "--fail-over-reliance", 0.41).code == 0
    assert salve("gate", audited / "out", "--fail-under-redundancy", 0).code == 2
    done = salve("gate", audited / "out", "--fail-over-reliance", 2)
    assert (done.code, done.err) == (2, "error: --fail-over-reliance: 2.0 is not between 0 and 1\n")


def test_arrays_have_no_image_reliance_and_a_limit_on_it_is_exit_2(salve: Callable, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    acts = (rng.random((120, 8)) + 2 * np.eye(8)[labels]).astype(np.float32)
    arrays = {"weight": np.eye(3, 8, dtype=np.float32), "bias": np.zeros(3, np.float32)}
    np.savez(tmp_path / "a.npz", acts=acts, labels=labels, **arrays)
    options = [*QUICK, "--format", "html,json", "--out", tmp_path / "out", "--quiet"]
    done = salve(tmp_path / "a.npz", *options, "--fail-over-reliance", 0.5)
    assert done.code == 2
    assert (
        "image reliance at most: no class could be judged (class 0: image reliance was not measured (activ" in done.err
    )
    assert "Image reliance was not measured: activations were audited" in (tmp_path / "out" / "report.html").read_text()


def test_a_limit_and_evidence_turned_off_exclude_each_other(
    salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = salve(colour_model, colour_data, "--evidence", "off", "--fail-over-reliance", 0.5, "--out", out)
    assert done.code == 2
    assert "error: --evidence: is off, but a limit on redundancy or image reliance needs it" in done.err
    assert not out.exists()


def test_naming_the_first_block_changes_nothing(
    salve: Callable, audited: Path, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    known = json.loads((audited / "out" / "audit.json").read_text())
    layer = known["evidence"]["layer"]
    options = [*QUICK, "--cache", audited / "cache", "--format", "json", "--quiet", "--no-images"]
    done = salve(colour_model, colour_data, *options, "--evidence-layer", layer, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert audit["evidence"] == known["evidence"]
    records = [[audited_class["image_reliance"] for audited_class in result["classes"]] for result in (audit, known)]
    assert records[0] == records[1]
    assert (tmp_path / "out" / "concepts.safetensors").is_file()


def test_the_named_layer_distinguishes_evidence_regions(
    salve: Callable, audited: Path, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    known = json.loads((audited / "out" / "audit.json").read_text())
    options = [*QUICK, "--cache", audited / "cache", "--format", "json", "--quiet", "--no-images"]
    other = _another_layer(salve, colour_model, colour_data, tmp_path)
    assert other != known["evidence"]["layer"]
    done = salve(colour_model, colour_data, *options, "--evidence-layer", other, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert audit["evidence"]["layer"] == other
    assert audit["provenance"]["config"]["evidence_layer"] == other
    assert {concept["layer"] for concept in audit["concepts"] if concept["kind"] == "region"} == {other}
    assert {concept["layer"] for concept in audit["concepts"] if concept["kind"] != "region"} == {"image"}


def _another_layer(salve: Callable, model: Path, data: Path, place: Path) -> str:
    """The last one that a wrong name is answered with."""
    done = salve(model, data, *QUICK, "--evidence-layer", "nowhere", "--out", place / "none", "--no-cache")
    assert done.code == 2
    assert "has no module 'nowhere'" in done.err
    assert not (place / "none").exists()
    return str(done.err.split("spatial layers there: ")[1].split("\n")[0].split(", ")[-1])


def test_a_layer_and_evidence_turned_off_exclude_each_other(
    salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    options = ("--evidence", "off", "--evidence-layer", "layer1", "--out", tmp_path / "out")
    done = salve(colour_model, colour_data, *options)
    assert done.code == 2
    assert "error: --evidence-layer: is named, but evidence is off" in done.err


def test_images_of_concepts_have_heat_maps_of_their_own(audited: Path) -> None:
    audit = json.loads((audited / "out" / "audit.json").read_text())
    images = [image for concept in audit["concepts"] if concept["kind"] == "region" for image in concept["images"]]
    assert images
    for image in images:
        sizes = {(image[part]["width"], image[part]["height"]) for part in ("outlined", "without", "heat")}
        assert len(sizes) == 1
        assert image["heat"]["jpeg"] not in (image["outlined"]["jpeg"], image["without"]["jpeg"])


def test_a_second_look_examines_undecided_classes_alone(
    salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("salve_audit.evidence.examine.NARROW", 2.0)  # the first round of 30 of 32 alone
    options = [*QUICK, "--format", "json", "--quiet", "--cache", tmp_path / "cache", "--out", tmp_path / "out"]
    file = tmp_path / "out" / "audit.json"
    assert salve(colour_model, colour_data, *options, "--fail-over-reliance", "1").code == 0
    first = {part["name"]: part["image_reliance"] for part in json.loads(file.read_text())["classes"]}
    name, value = min(first.items(), key=lambda item: item[1]["reliance"])
    limit = value["reliance"] + 0.9 * (value["high"] - value["reliance"])  # within the interval, near its end
    policy = tmp_path / "policy.toml"
    policy.write_text(f'[classes."{name}"]\nmax_image_reliance = {limit}\n')
    done = salve(colour_model, colour_data, *options, "--policy", policy, "--decide")
    assert done.code in (0, 1), done.err
    audit = json.loads(file.read_text())
    for part in audit["classes"]:
        reliance, again = part["image_reliance"], part["name"] == name
        assert (reliance["n"], reliance["examinations"]) == ((32, 2) if again else (30, 1))
        if reliance["concept"] is not None:
            assert audit["concepts"][reliance["concept"]]["class"] == part["name"]
        if not again:
            before = first[part["name"]]
            assert (reliance["reliance"], reliance["factors"]) == (before["reliance"], before["factors"])
    check_lost_images(tmp_path / "out")
    assert f"examined a second time, since the first did not decide: {name} (32 images)" in done.out
    assert salve("gate", tmp_path / "out").code == done.code
    refused = salve(colour_model, colour_data, *options, "--fail-under", "1", "--decide")
    assert (refused.code, "there is no rule on what is measured in the image" in refused.err) == (2, True)
