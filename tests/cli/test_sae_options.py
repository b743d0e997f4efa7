"""The autoencoder's options as a user gives them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

QUICK = ("--format", "json", "--interventions", "salve", "--no-cache", "--limit", "20", "--depth", "off", "--no-images")


@pytest.mark.parametrize("n", [1, 3])
def test_as_many_seeds_as_asked_for(salve, colour_model, colour_data, tmp_path: Path, n: int) -> None:
    args = (*QUICK, "--sae", "linear-l1", "--sae-seeds", str(n), "--out", tmp_path / "out")
    done = salve(colour_model, colour_data, *args)
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "out" / "audit.json").read_text())
    if n == 1:
        assert found["sae"]["stability"] is None
        assert all(one["seeds"] is None and one["stable"] is None for one in found["classes"])
    else:
        assert found["sae"]["stability"]["n_seeds"] == n
        assert all(len(one["seeds"]["medians"]) == n for one in found["classes"])


def test_the_default_compares_variants(salve, colour_model, colour_data, tmp_path: Path) -> None:
    done = salve(colour_model, colour_data, *QUICK, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert {"linear-l1", "topk", "jumprelu"} == {one["variant"] for one in found["sae"]["frontier"]}
    assert sum(one["chosen"] for one in found["sae"]["frontier"]) == 1


def test_no_seeds_are_refused(salve, colour_model, colour_data) -> None:
    refused = salve(colour_model, colour_data, "--sae-seeds", "0")
    assert (refused.code, refused.err.splitlines()[0]) == (2, "error: sae_seeds: 0 is below 1")
