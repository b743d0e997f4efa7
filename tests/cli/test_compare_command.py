"""``salve-audit compare``: output in three forms, and refusals, from saved audits alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from report_reliance import add_reliance
from report_results import build_result


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    for name, shares in (("old", (0.9, 0.02)), ("new", (0.02, 0.9))):
        (tmp_path / name).mkdir()
        result = add_reliance(build_result(2, plain_names=True, limit=None), shares)
        (tmp_path / name / "audit.json").write_text(result.to_json(), encoding="utf-8")
    return tmp_path / "old", tmp_path / "new"


def test_newly_fragile_and_fixed_classes_lead(salve: Callable, pair: tuple[Path, Path]) -> None:
    done = salve("compare", *pair)
    assert done.code == 0, done.err
    assert [line.split("  ")[:2] for line in done.out.splitlines()[2:4]] == [
        ["class 0001", "newly fragile"],
        ["class 0000", "fixed"],
    ]
    assert "1 newly fragile, 1 fixed." in done.out
    assert json.loads(salve("compare", *pair, "--format", "json").out)["classes"][0]["status"] == "newly fragile"
    assert "| class 0001 | newly fragile |" in salve("compare", *pair, "--format", "md").out


def test_other_data_are_refused_unless_allowed(salve: Callable, pair: tuple[Path, Path]) -> None:
    result = add_reliance(build_result(2, plain_names=True, limit=None), (0.9,))
    other = dataclasses.replace(result, provenance=dataclasses.replace(result.provenance, data_sha256="d" * 64))
    (pair[1] / "audit.json").write_text(other.to_json(), encoding="utf-8")
    done = salve("compare", *pair)
    assert done.code == 2
    assert "the audited data are others" in done.err
    allowed = salve("compare", *pair, "--allow-mismatch", "data")
    assert allowed.code == 0, allowed.err
    assert "MISMATCH: the audited data are others" in allowed.out


def test_a_report_shows_what_changed(salve: Callable, pair: tuple[Path, Path], tmp_path: Path) -> None:
    done = salve("report", pair[1], "--against", pair[0], "--out", tmp_path / "out", "--format", "html")
    assert done.code == 0, done.err
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Newly fragile: 1 class; fixed: 1 class." in page
