"""Two audits side by side: statistics, refusals, and the reports that show them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_reliance import add_reliance
from report_results import build_result

from salve_audit.cli.app import run
from salve_audit.compare import compare_audits
from salve_audit.compare.statistics import independent_difference, paired_accuracy, paired_median
from salve_audit.errors import UsageError
from salve_audit.report import Rendering, render_html
from salve_audit.report.changes import Status
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
    assert not first.reliance.is_paired
    assert first.flip is not None
    assert first.flip.is_paired
    assert first.flip.value == pytest.approx(0.5)
    assert first.flip.low == pytest.approx(0.5)  # every image moved alike, which only a paired bootstrap can see
    assert first.flip.high == pytest.approx(0.5)
    assert "image by image" in comparison.pairing


def test_without_samples_or_the_same_images_it_is_unpaired_and_says_so(tmp_path: Path) -> None:
    old = _save(tmp_path / "old", _audit((0.9,)), shift=None)
    new = _save(tmp_path / "new", _audit((0.9,)))
    assert "samples.parquet is not beside both" in compare_audits(old, new).pairing
    other = _audit((0.9,))
    other = dataclasses.replace(other, provenance=dataclasses.replace(other.provenance, data_sha256="d" * 64))
    comparison = compare_audits(new, _save(tmp_path / "other", other))
    assert "saw other images" in comparison.pairing
    assert all(not change.accuracy.is_paired for change in comparison.classes if change.accuracy is not None)


def test_unlike_audits_are_refused_by_name_unless_allowed(tmp_path: Path) -> None:
    old = _save(tmp_path / "old", _audit((0.9,)))
    other = add_reliance(build_result(5, plain_names=True, limit=None), (0.9,))
    config = {**other.provenance.config, "sae": "topk"}
    other = dataclasses.replace(other, provenance=dataclasses.replace(other.provenance, config=config))
    new = _save(tmp_path / "new", other)
    with pytest.raises(UsageError, match=r"other classes \(with class 0004\); other settings \(sae\)"):
        compare_audits(old, new)
    comparison = compare_audits(old, new, allow_mismatch=True)
    assert len(comparison.mismatches) == 2
    assert [change.name for change in comparison.of(Status.ADDED)] == ["class 0004"]
    page = render_html(other, rendering=Rendering(comparison=comparison))
    assert "The two audits differ in more than the model" in page
    assert "other settings (sae)" in page


def test_the_command_prints_a_table_markdown_and_json(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", *map(str, pair)]) == 0
    table = capsys.readouterr().out
    assert table.splitlines()[2].startswith("class 0001  newly fragile")
    assert "+88.0 (" in table
    assert run(["compare", *map(str, pair), "--format", "md"]) == 0
    assert capsys.readouterr().out.count("\n|") == 6
    assert run(["compare", *map(str, pair), "--format", "json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["classes"][0]["image_reliance"]["new"] == pytest.approx(0.9)


def test_a_report_against_another_audit_opens_with_what_changed(pair: tuple[Path, Path]) -> None:
    comparison = compare_audits(*pair)
    page = render_html(comparison.new, rendering=Rendering(comparison=comparison))
    assert page.index('id="changes"') < page.index('id="reading"')
    assert "Newly fragile: 1 class; fixed: 1 class." in page
    assert page.index(">newly fragile<") < page.index(">fixed<") < page.index(">still fragile<")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_paired_accuracy_is_the_difference_within_its_interval(images: list[tuple[bool, bool]]) -> None:
    old, new = (np.array(side) for side in zip(*images, strict=True))
    part = paired_accuracy(old, new)
    assert part.value == pytest.approx(new.mean() - old.mean())
    assert part.low is not None
    assert part.high is not None
    assert -1 <= part.low <= part.value <= part.high <= 1


def test_paired_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        old = rng.random(120) < 0.8
        new = np.where(rng.random(120) < 0.15, rng.random(120) < 0.5, old)  # 0.85 * 0.8 + 0.15 * 0.5
        part = paired_accuracy(old, new)
        assert part.low is not None
        assert part.high is not None
        held += part.low <= -0.045 <= part.high
    assert 0.9 <= held / 300 <= 0.99


def test_open_medians_have_no_difference() -> None:
    never = np.full(10, np.inf)
    part = paired_median(np.ones(10), never)
    assert (part.old, part.new, part.value) == (1.0, None, None)
    assert independent_difference((None, 2.0, None), (1.0, 0.5, 2.0)).value is None
    assert paired_median(np.array([1.0, 2.0, np.nan]), np.array([2.0, 3.0, 4.0])).value == pytest.approx(2.0)
