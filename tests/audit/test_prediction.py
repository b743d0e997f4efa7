"""Predictions: counted work, corrected by what earlier audits took."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from salve_audit.audit.line import LINE
from salve_audit.audit.prediction import FILE, FORMULAS, REMEMBERED, Workload, read_ratios, remember_ratios
from salve_audit.audit.progress import StageTime
from salve_audit.config import AuditConfig

LOAD = Workload(1000, 1000, 512, 10, (100,) * 10, 0.01, 2e-10, AuditConfig("m", "d"))


def predict(**changes: object) -> dict[str, float]:
    return {name: formula(dataclasses.replace(LOAD, **changes)) for name, formula in FORMULAS.items()}


def test_every_stage_has_a_formula() -> None:
    assert set(FORMULAS) == {stage.name for stage in LINE}
    assert all(seconds > 0 for seconds in predict().values())


@pytest.mark.parametrize(
    "larger", [{"n_audit": 4000, "per_class": (400,) * 10}, {"n_fit": 4000}, {"d": 2048}, {"k": 40}, {"image_s": 0.1}]
)
def test_more_work_never_takes_less(larger: dict) -> None:
    before, after = predict(), predict(**larger)
    assert all(after[name] >= before[name] for name in before)
    assert sum(after.values()) > sum(before.values())


def test_what_is_turned_off_takes_nothing() -> None:
    off = predict(config=AuditConfig("m", "d", evidence="off", deep_edits="off", images=False))
    assert [off[name] for name in ("image reliance", "deep edits", "saliency")] == [0, 0, 0]
    arrays = predict(image_s=0.0)
    assert [arrays[name] for name in ("image reliance", "deep edits", "saliency")] == [0, 0, 0]


def test_what_stages_took_corrects_the_next_prediction(tmp_path: Path) -> None:
    assert read_ratios(tmp_path) == {}
    remember_ratios(tmp_path, [StageTime("a", 10.0, 30.0), StageTime("b", 10.0, 5.0)])
    assert read_ratios(tmp_path) == {"a": [3.0], "b": [0.5]}
    remember_ratios(tmp_path, [StageTime("a", 30.0, 30.0)])  # predicted with the ratio, and right
    assert read_ratios(tmp_path)["a"] == [3.0, pytest.approx(3.0)]
    for _ in range(10):
        remember_ratios(tmp_path, [StageTime("b", 5.0, 5.0)])
    assert len(read_ratios(tmp_path)["b"]) == REMEMBERED


def test_what_says_nothing_about_speed_is_not_remembered(tmp_path: Path) -> None:
    times = [StageTime("short", 10.0, 0.1), StageTime("kept", 10.0, 9.0, from_cache=True)]
    times += [StageTime("unknown", None, 9.0), StageTime("nothing", 0.0, 9.0), StageTime("failed", 10.0, None)]
    remember_ratios(tmp_path, times)
    assert read_ratios(tmp_path) == {}


@pytest.mark.parametrize("content", ["", "[]", '{"a": 3}', '{"a": ["x"]}', "\xff"])
def test_a_damaged_file_is_no_reason_to_fail(content: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(content, encoding="latin-1")
    assert read_ratios(tmp_path) == {}
    remember_ratios(tmp_path, [StageTime("a", 10.0, 30.0)])
    assert json.loads((tmp_path / FILE).read_text()) == {"a": [3.0]}
    remember_ratios(None, [StageTime("a", 10.0, 30.0)])
    remember_ratios(tmp_path / "none", [StageTime("a", 10.0, 30.0)])
