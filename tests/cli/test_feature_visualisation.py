"""Images made for features, from the command line to audit.json and the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

QUICK = ["--sae", "linear-l1", "--sae-seeds", "1", "--n-latents", "6", "--interventions", "salve", "--evidence", "off"]
QUICK += ["--deep-edits", "off", "--quiet", "--limit", "20"]


def test_made_images_are_in_the_galleries_of_dominant_features(
    salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    out, cache = tmp_path / "out", ["--cache", tmp_path / "cache"]
    options = [*QUICK, *cache, "--format", "html,json", "--out", out]
    done = salve(colour_model, colour_data, *options, "--activation-maximisation", "dominant")
    assert done.code == 0, done.err
    audit = json.loads((out / "audit.json").read_text())
    dominant = {class_record["dominant_feature"] for class_record in audit["classes"]}
    made = {gallery["feature"]: gallery["synthetic"] for gallery in audit["seeing"]["features"]}
    assert {feature for feature, image in made.items() if image is not None} == dominant
    # real ones are noisy, these are not
    assert all(image["ratio"] > 0.3 for image in made.values() if image is not None)
    page = (out / "report.html").read_text()
    assert page.count("optimised from noise: strength") >= len(dominant)
    assert audit["provenance"]["config"]["activation_maximisation"] == "dominant"
    done = salve(colour_model, colour_data, *options, "--device", "cpu")
    assert done.code == 0, done.err
    audit = json.loads((out / "audit.json").read_text())
    assert all(gallery["synthetic"] is None for gallery in audit["seeing"]["features"])
    assert "--activation-maximisation dominant" in (out / "report.html").read_text()
