"""Pictures made for features, from the command line to audit.json and the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

QUICK = ["--sae", "linear-l1", "--sae-seeds", "1", "--n-latents", "6", "--interventions", "salve", "--depth", "off"]
QUICK += ["--deep-edits", "off", "--quiet", "--limit", "20"]


def test_made_pictures_are_in_the_galleries_of_dominant_features(
    salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    out, cache = tmp_path / "out", ["--cache", tmp_path / "cache"]
    options = [*QUICK, *cache, "--format", "html,json", "--out", out]
    done = salve(colour_model, colour_data, *options, "--activation-maximisation", "dominant")
    assert done.code == 0, done.err
    audit = json.loads((out / "audit.json").read_text())
    dominant = {one["dominant_feature"] for one in audit["classes"]}
    made = {one["feature"]: one["synthetic"] for one in audit["seeing"]["features"]}
    assert {feature for feature, one in made.items() if one is not None} == dominant
    assert all(one["ratio"] > 0.3 for one in made.values() if one is not None)  # real ones are noisy, these are not
    page = (out / "report.html").read_text()
    assert page.count("made from noise") >= len(dominant)
    assert audit["provenance"]["config"]["activation_maximisation"] == "dominant"
    done = salve(colour_model, colour_data, *options, "--device", "cpu")
    assert done.code == 0, done.err
    audit = json.loads((out / "audit.json").read_text())
    assert all(one["synthetic"] is None for one in audit["seeing"]["features"])
    assert "--activation-maximisation dominant" in (out / "report.html").read_text()
