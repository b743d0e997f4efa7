"""Two audits side by side: statistics, refusals, and the reports that show them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_reliance import add_reliance
from report_results import build_result

from salve_audit.compare import compare_audits
from salve_audit.compare.text import as_json, as_markdown, comparison_rows, summary
from salve_audit.errors import ResultError
from salve_audit.report import Rendering, render_html
from salve_audit.report.changes import Status
from salve_audit.report.view import PDF
from salve_audit.results import AuditResult


def _audit(shares: tuple[float, ...], model: str = "a.pt") -> AuditResult:
    result = add_reliance(build_result(4, plain_names=True, limit=None), shares)
    return dataclasses.replace(result, model=dataclasses.replace(result.model, name=model))


def _save(folder: Path, result: AuditResult, shift: float | None = 0.0) -> Path:
    """With samples.parquet beside it unless `shift` is None; flips are moved by it."""
    folder.mkdir(exist_ok=True)
    (folder / "audit.json").write_text(result.to_json(), encoding="utf-8")
    if shift is not None:
        rng = np.random.default_rng(0)
        names = [info.name for info in result.classes for _ in range(80)]
        table = {"path": [f"{name}/{i}" for i, name in enumerate(names)], "label": names}
        table |= {
            "correct": [i % 9 > 0 for i in range(len(names))],
            "alpha_hat_flip": 2 + shift + rng.random(len(names)),
        }
        pd.DataFrame(table).to_parquet(folder / "samples.parquet")
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    old = _save(tmp_path / "old", _audit((0.9, 0.02, 0.95, 0.3)))
    return old, _save(tmp_path / "new", _audit((0.02, 0.9, 0.95, 0.3), "b.pt"), shift=0.5)


def test_newly_fragile_and_fixed_classes_come_first(pair: tuple[Path, Path]) -> None:
    comparison = compare_audits(*pair)
    said = [(change.name, change.status) for change in comparison.classes]
    assert said == [
        ("class 0001", Status.NEWLY_FRAGILE),
        ("class 0000", Status.FIXED),
        ("class 0002", Status.STILL_FRAGILE),
        ("class 0003", Status.CHANGED),
    ]
    first = comparison.classes[0]
    assert first.reliance is not None
    assert first.reliance.value == pytest.approx(0.88)
    assert first.reliance.is_shown
    assert first.flip is not None
    assert first.flip.value == pytest.approx(0.5 / 2.5, abs=0.05)  # every median rose by 0.5
    assert first.flip.low is not None
    assert first.flip.low <= first.flip.value
    assert "image by image" in comparison.pairing


def test_without_samples_only_image_reliance_is_compared_and_it_says_so(tmp_path: Path) -> None:
    old = _save(tmp_path / "old", _audit((0.9,)), shift=None)
    comparison = compare_audits(old, _save(tmp_path / "new", _audit((0.9,))))
    assert "are not compared" in comparison.pairing
    assert all(change.accuracy is not None and change.accuracy.value is None for change in comparison.classes)
    assert all(change.reliance is not None and change.reliance.value == 0 for change in comparison.classes[:3])


def test_unlike_audits_are_refused_by_name_unless_allowed(tmp_path: Path) -> None:
    old = _save(tmp_path / "old", _audit((0.9,)))
    other = add_reliance(build_result(5, plain_names=True, limit=None), (0.9,))
    new = _save(tmp_path / "new", other)
    with pytest.raises(ResultError, match="the classes are others"):
        compare_audits(old, new)
    comparison = compare_audits(old, new, ("classes",))
    assert [change.name for change in comparison.of(Status.ADDED)] == ["class 0004"]
    page = render_html(other, rendering=Rendering(comparison=comparison))
    assert "The two audits differ in more than the model" in page
    assert "the classes are others" in page


def test_terminal_markdown_and_json_hold_the_same(pair: tuple[Path, Path]) -> None:
    comparison = compare_audits(*pair)
    first = comparison_rows(comparison)[0]
    assert first[:3] == ["class 0001", "newly fragile", "2.0 % -> 90.0 %"]
    assert first[3].startswith("+88.0 (")
    assert first[3].endswith("*")
    assert as_markdown(comparison).count("\n|") == 6
    value = json.loads(as_json(comparison))
    assert [part["class"] for part in value["classes"]] == [change.name for change in comparison.classes]
    assert value["classes"][0]["image_reliance"]["new"] == pytest.approx(0.9)
    assert summary(comparison) == "1 newly fragile, 1 fixed, 1 still fragile, 1 changed."


def test_a_report_against_another_audit_opens_with_what_changed(pair: tuple[Path, Path]) -> None:
    comparison = compare_audits(*pair)
    page = render_html(comparison.new, rendering=Rendering(comparison=comparison))
    assert page.index('id="changes"') < page.index('id="reading"')
    assert (
        "Compared with \u2068a.pt\u2069: Newly fragile: 1 class; fixed: 1 class." in page[: page.index('id="changes"')]
    )
    paper = render_html(comparison.new, PDF, Rendering(comparison=comparison))
    assert paper.index('id="changes"') < paper.index('id="reading"')
    assert paper.count("<tr>", paper.index('class="changes"'), paper.index('id="reading"')) == 1 + len(
        comparison.classes
    )
    assert "Newly fragile: 1 class; fixed: 1 class." in page
    assert page.index(">newly fragile<") < page.index(">fixed<") < page.index(">still fragile<")
