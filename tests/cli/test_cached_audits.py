"""Audits from the cache: the same bytes as fresh ones, and only what has changed computed again."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from salve_audit.audit.progress import EVENTS

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "log-json.md"
QUICK = ("--sae", "linear-l1", "--n-latents", "8", "--sae-seeds", "2", "--deep-edits", "off")
QUICK += ("--workers", "0", "--device", "cpu")
ALL_STAGES = ["autoencoder", "reliance", "interventions", "stress", "saliency", "data check", "image reliance"]
WITHOUT_IMAGES = [
    stage for stage in ALL_STAGES if stage not in ("saliency", "image reliance")
]  # what is off is not told


@pytest.fixture(scope="module")
def first(audit_colours: Callable) -> Path:
    """out/ and cache/ of an audit that computed everything, html and json."""
    return audit_colours("cached_audit", *QUICK, "--interventions", "salve,steering", "--format", "html,json")


@pytest.fixture
def again(first: Path, salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path) -> Callable:
    """``again(*options)``: another audit with a copy of the cache; its folder, outcome and events."""
    shutil.copytree(first / "cache", tmp_path / "cache")

    def audit(*options: str, name: str = "out") -> tuple[Path, object, list[dict]]:
        place = ("--out", tmp_path / name, "--log-json", "--format", "html,json")
        methods = () if "--interventions" in options else ("--interventions", "salve,steering")
        where = () if "--no-cache" in options else ("--cache", tmp_path / "cache")
        done = salve(colour_model, colour_data, *QUICK, *methods, *place, *where, *options)
        return tmp_path / name, done, [json.loads(line) for line in done.err.splitlines()]

    return audit


def computed(events: list[dict]) -> list[str]:
    finished = [event for event in events if event["event"] == "stage_finished"]
    return [event["stage"] for event in finished if not event["from_cache"] and event["stage"] in ALL_STAGES]


def contents(folder: Path, *, created: bool = True) -> dict[str, bytes]:
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    if not created:
        values = json.loads(files["audit.json"])
        moment = values.pop("created").encode()
        files = {name: content.replace(moment, b"moment") for name, content in files.items()}
        spoken = re.compile(  # audit.json is a download of the page, too
            rb"\d+ \w+ \d{4}, \d\d:\d\d UTC|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\+00:00|Z)|application/gzip;base64,[^\"]+"
        )
        files["report.html"] = spoken.sub(b"moment", files["report.html"])
    return files


def test_an_identical_audit_is_recalled_to_the_byte(again: Callable, first: Path) -> None:
    folder, done, events = again()
    assert done.code == 0, done.err
    assert contents(folder) == contents(first / "out")
    assert [event["event"] for event in events if event["event"] == "recalled"] == ["recalled"]
    assert computed(events) == []


def test_a_fresh_audit_gives_the_bytes_of_one_from_the_cache(again: Callable, first: Path) -> None:
    folder, _, events = again("--no-cache")
    assert computed(events) == ALL_STAGES
    assert contents(folder, created=False) == contents(first / "out", created=False)


def test_a_limit_or_a_format_computes_nothing(again: Callable, first: Path) -> None:
    folder, done, events = again("--fail-under", "1000000")
    assert done.code == 1
    assert computed(events) == []
    before, after = (json.loads((place / "audit.json").read_text()) for place in (first / "out", folder))
    assert (before["verdict"]["passed"], after["verdict"]["passed"]) == (None, False)
    assert after["provenance"]["config"].pop("fail_under") == 1000000
    before["provenance"]["config"].pop("fail_under")
    assert before.pop("digest") != after.pop("digest")
    assert {**before, "verdict": None} == {**after, "verdict": None}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--interventions", "salve"), ["interventions", "stress", "saliency"]),
        (("--saliency-layer", "layer2"), ["saliency"]),
        (("--evidence", "off"), []),
        (("--no-images",), ["image reliance"]),
    ],
)
def test_a_setting_computes_what_depends_on_it_alone(
    again: Callable, options: tuple[str, ...], expected: list[str]
) -> None:
    _, done, events = again(*options)
    assert done.code == 0, done.err
    assert computed(events) == expected


def test_results_from_the_cache_and_computed_ones_make_the_bytes_of_a_fresh_audit(again: Callable) -> None:
    options = ("--interventions", "salve", "--evidence", "off")
    mixed, _, events = again(*options)
    assert computed(events) == ["interventions", "stress", "saliency"]
    fresh, _, events = again(*options, "--no-cache", name="fresh")
    assert computed(events) == ALL_STAGES[:-1]
    assert contents(mixed, created=False) == contents(fresh, created=False)


def test_kept_activations_are_written_by_a_recalled_audit_too(again: Callable, tmp_path: Path) -> None:
    folder, _, events = again("--keep-activations")
    assert computed(events) == []
    written = load_file(folder / "activations.safetensors")
    (values,) = (tmp_path / "cache").glob("*/acts.npy")
    assert np.array_equal(np.concatenate([written["fit_acts"], written["audit_acts"]]), np.load(values))
    assert np.bincount(written["audit_labels"]).tolist() == [32, 32, 32]
    shutil.rmtree(values.parent)
    folder, _, events = again("--keep-activations", name="without")
    assert computed(events) == [], "the pass is made again, and every stage recalled"
    assert np.array_equal(load_file(folder / "activations.safetensors")["fit_acts"], written["fit_acts"])


def test_damaged_results_are_computed_again(again: Callable, first: Path, tmp_path: Path) -> None:
    for name in ("audit", "reliance", "interventions"):
        (file,) = (tmp_path / "cache" / "stages" / name).iterdir()
        file.write_bytes(file.read_bytes()[:-50])
    folder, done, events = again()
    assert done.code == 0
    assert computed(events) == ["reliance", "interventions"]
    warned = [event["message"] for event in events if event["event"] == "warning"]
    assert sum("is damaged and computed again" in text for text in warned) == 3
    assert contents(folder, created=False) == contents(first / "out", created=False)


def test_other_pixels_are_another_audit(
    first: Path, salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    shutil.copytree(first / "cache", tmp_path / "cache")
    shutil.copytree(colour_data, tmp_path / "colours")
    blue, red = (sorted((tmp_path / "colours" / "val" / name).iterdir())[0] for name in ("blue", "red"))
    blue.write_bytes(red.read_bytes())
    place = ("--out", tmp_path / "out", "--cache", tmp_path / "cache", "--format", "json", "--evidence", "off")
    done = salve(colour_model, tmp_path / "colours", *QUICK, "--interventions", "salve", *place, "--log-json")
    assert "recalled" not in done.err
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["classes"][0]["n_correct"] < 32


def test_a_recalled_audit_loads_no_torch(first: Path, colour_model: Path, colour_data: Path, tmp_path: Path) -> None:
    options = [*QUICK, "--interventions", "salve,steering", "--format", "html,json"]
    words = [str(colour_model), str(colour_data), *options, "--out", "out", "--cache", str(first / "cache")]
    code = f"""
import sys
from salve_audit.cli.app import run
assert run({words!r}) == 0
assert not {{"torch", "timm"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_cache_that_cannot_be_written_is_a_warning(
    salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    place = ("--out", tmp_path / "out", "--cache", tmp_path / "file", "--format", "json", "--evidence", "off")
    done = salve(colour_model, colour_data, *QUICK, "--interventions", "salve", *place, "--no-images", "-q")
    assert done.code == 0, done.err
    assert [line.split(": ")[0] for line in done.err.splitlines()] == ["warning", "warning"]
    assert "file: cannot be written (File exists); activat" in done.err
    assert "nothing is kept for the next audit" in done.err
    assert (tmp_path / "out" / "audit.json").is_file()


def test_events_are_told_in_order_and_documented(again: Callable) -> None:
    _, done, events = again("--seed", "3", "--evidence", "off", "--no-images")
    assert done.code == 0
    names = [event["event"] for event in events]
    assert set(names) <= {*EVENTS, "warning", "message"}
    assert names.index("first_result") < names.index("prediction") < names.index("sensitivity")
    finished = events[-1]
    assert finished["event"] == "audit_finished"
    assert [stage["stage"] for stage in finished["stages"]] == ["inputs", "activations", *WITHOUT_IMAGES, "report"]
    assert all(
        stage["predicted_seconds"] is not None for stage in finished["stages"] if stage["stage"] in WITHOUT_IMAGES
    )
    assert finished["predicted_seconds"] > 0
    assert finished["actual_seconds"] > 0
    documented = set(re.findall(r"^\| `(\w+)` \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE))
    assert documented == {*EVENTS, "warning", "message", "error", "interrupted"}


def test_errors_are_json_too(salve: Callable, tmp_path: Path) -> None:
    done = salve(tmp_path / "nothing.pt", tmp_path, "--log-json", "--out", tmp_path / "out")
    last = json.loads(done.err.splitlines()[-1])
    assert (done.code, last["event"], last["level"]) == (2, "error", "error")
    assert "nothing.pt" in last["message"]


def test_text_tells_one_line_per_stage(salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path) -> None:
    place = ("--out", tmp_path / "out", "--no-cache", "--format", "json", "--evidence", "off", "--no-images")
    done = salve(colour_model, colour_data, *QUICK, "--interventions", "salve", *place)
    lines = done.err.splitlines()
    for stage in ["inputs", "activations", *WITHOUT_IMAGES, "report"]:
        assert len([line for line in lines if line.startswith(f"{stage}: ")]) == 1, stage
    accuracy = next(place for place, line in enumerate(lines) if line.startswith("accuracy "))
    assert lines.index(next(line for line in lines if line.startswith("activations: "))) < accuracy
    assert accuracy < lines.index(next(line for line in lines if line.startswith("autoencoder: ")))
    assert os.linesep.join(lines).count("%|") == 0, "a bar is drawn on a terminal alone"
