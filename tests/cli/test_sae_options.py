"""The autoencoder's options as a user gives them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

QUICK = ("--format", "json", "--interventions", "salve", "--no-cache", "--limit", "20", "--no-images")
QUICK += ("--evidence", "off")


@pytest.mark.parametrize("n", [1, 3])
def test_as_many_seeds_as_asked_for(salve, colour_model, colour_data, tmp_path: Path, n: int) -> None:
    args = (*QUICK, "--sae", "linear-l1", "--sae-seeds", str(n), "--out", tmp_path / "out")
    done = salve(colour_model, colour_data, *args)
    assert done.code == 0, done.err
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    if n == 1:
        assert audit["sae"]["stability"] is None
        assert all(
            class_record["seeds"] is None and class_record["stable"] is None for class_record in audit["classes"]
        )
    else:
        assert audit["sae"]["stability"]["n_seeds"] == n
        assert all(len(class_record["seeds"]["medians"]) == n for class_record in audit["classes"])


def test_the_default_compares_variants(salve, colour_model, colour_data, tmp_path: Path) -> None:
    done = salve(colour_model, colour_data, *QUICK, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert {"linear-l1", "topk", "jumprelu"} == {point["variant"] for point in audit["sae"]["frontier"]}
    assert sum(point["chosen"] for point in audit["sae"]["frontier"]) == 1


def test_no_seeds_are_refused(salve, colour_model, colour_data) -> None:
    refused = salve(colour_model, colour_data, "--sae-seeds", "0")
    assert (refused.code, refused.err.splitlines()[0]) == (2, "error: --sae-seeds: 0 is below 1")
