"""The report compares methods by paired intervals, and ranks none that reached nothing."""

from __future__ import annotations

import dataclasses

import pytest

from salve_audit.interventions.registry import is_null, label_method
from salve_audit.report.numbers import percent, percent_interval, unmarked
from salve_audit.report.view.interventions import build_interventions
from salve_audit.report.view.page import HTML
from salve_audit.report.view.ranking import compare_rome, headline, rank
from salve_audit.results import (
    AuditResult,
    InterventionResult,
    MethodSummary,
)


def _row(method: str, name: str, others: float, reached: bool = True) -> InterventionResult:
    return InterventionResult(
        method=method,
        class_name=name,
        feature=None,
        strength=1.0,
        target_accuracy=0.05,
        reached_accuracy=0.05,
        reached=reached,
        others_accuracy=others,
        others_worst=others,
        kl=0.0,
        agreement=1.0,
        weight_change=0.1,
        area=0.9,
        low=others,
        high=others,
    )


def _summary(
    method: str, others: float, gap: tuple[float, float, float] | None = None, reached: int = 9
) -> MethodSummary:
    value, low, high = gap or (None, None, None)
    common = 0 if gap is None else min(9, reached)
    return MethodSummary(method, 0.05, 10, reached, others, others - 0.01, others + 0.01, 0.9, common, value, low, high)


def _ranked(*rows: MethodSummary) -> tuple[str, str]:
    ((order, meaning),) = rank(rows)
    return unmarked(order.replace("\u00a0", " ")), meaning


def test_ranking_is_of_the_joint_means_with_their_intervals() -> None:
    order, meaning = _ranked(
        _summary("salve", 0.91, (-0.02, -0.025, -0.015)),
        _summary("row-scaling", 0.93, (0.0, 0.0, 0.0), reached=10),
        _summary("rome-cov", 0.97, reached=0),
        _summary("null-permuted", 0.99, (0.06, 0.05, 0.07)),
    )
    assert order == (
        "At 5 % accuracy of the class, the others keep on average over all classes (95 % interval, %): "
        "row scaling (trivial) 93.0 % (92.0–94.0), SALVE 91.0 % (90.0–92.0; reached in 9 of 10 classes). "
        "In no class brought there: ROME, covariance."
    )
    assert meaning == (
        "SALVE is number 2 of 2 by this mean. Plain row scaling, which needs no autoencoder, keeps more than SALVE "
        "over the 9 classes that both bring to the target (−2.0 points, 95 % interval −2.5 to −1.5)."
    )


@pytest.mark.parametrize(
    ("gap", "said"),
    [
        ((0.02, 0.01, 0.03), "SALVE keeps more than plain row scaling over the 9 classes"),
        (
            (-0.001, -0.004, 0.002),
            "no difference beyond chance over the 9 classes that both bring to the target (−0.1 po",
        ),
        ((0.01, 0.0, 0.02), "no difference beyond chance"),
        (None, "SALVE and plain row scaling reached the target on no common class."),
    ],
)
def test_salve_is_compared_with_row_scaling_by_the_paired_interval(
    gap: tuple[float, float, float] | None, said: str
) -> None:
    assert said in _ranked(_summary("salve", 0.9, gap), _summary("row-scaling", 0.9, (0.0, 0.0, 0.0)))[1]


def test_no_word_on_row_scaling_where_it_was_not_compared() -> None:
    assert _ranked(_summary("salve", 0.9), _summary("rome", 0.8))[1] == "SALVE is number 1 of 2 by this mean."


def test_the_headline_is_one_sentence_that_does_not_flatter() -> None:
    worse, even = (-0.02, -0.025, -0.015), (0.001, -0.004, 0.004)
    low = (
        _summary("salve", 0.91, worse),
        _summary("row-scaling", 0.93, (0.0, 0.0, 0.0)),
        _summary("leace", 0.95, reached=10),
        _summary("rome-cov", 0.97, reached=0),
        _summary("null-permuted", 0.99),
    )
    half = [dataclasses.replace(_summary("salve", 0.96, even), target_accuracy=0.5)]
    half.append(dataclasses.replace(_summary("row-scaling", 0.95, (0.0, 0.0, 0.0)), target_accuracy=0.5))
    assert headline([*low, *half]).replace("\u00a0", " ") == (
        "By the accuracy that the other classes keep, SALVE is number 1 of 2 methods where the class is at 50 % "
        "(96.0 %, with 9 of 10 classes brought there) and is number 3 of 3 methods where the class is at 5 % (91.0 %, "
        "with 9 of 10 classes brought there; LEACE keeps most, 95.0 %); row scaling, which is trivial and needs no "
        "autoencoder, is not distinguished from it at 50 %, and keeps more than SALVE at 5 %."
    )
    assert "keeps less than SALVE at 5 %" in headline([_summary("salve", 0.9, (0.02, 0.01, 0.03)), low[1]])
    assert headline([_summary("salve", 0.9, reached=0)]).endswith("SALVE reaches 5 % in no class.")
    assert headline([]) == ""


def test_nothing_is_ranked_where_salve_reached_nothing() -> None:
    assert "SALVE brought no class to the target" in _ranked(_summary("salve", 0.9, reached=0))[1]
    assert rank([]) == ()


def test_the_tests_against_salve_are_told_with_their_intervals() -> None:
    def tested(method: str, gap: float, p: float) -> MethodSummary:
        gaps = {"n_common_salve": 9, "to_salve": gap, "to_salve_low": gap - 0.01, "to_salve_high": gap + 0.01}
        return dataclasses.replace(_summary(method, 0.9), **gaps, p_salve=p / 3, p_salve_holm=p)

    rows = [
        _summary("salve", 0.9),
        tested("row-scaling", 0.04, 0.02),
        tested("null-random", -0.3, 0.02),
        tested("leace", 0.005, 0.05),
    ]
    assert (
        "In paired tests on common classes, corrected by Holm, points over SALVE with 95 % interval: more than SALVE "
        "keep: row scaling (trivial) +4.0 (+3.0 to +5.0); less keep: null: random feature −30.0 (−31.0 to −29.0); "
        "not distinguished from SALVE: LEACE."
    ) in _ranked(*rows)[1]


def test_rome_and_steering_are_compared_on_common_classes() -> None:
    near = [
        _row("rome", "a", 0.90),
        _row("steering", "a", 0.895),
        _row("rome", "b", 0.5),
        _row("steering", "b", 0, False),
    ]
    assert compare_rome(near).startswith("ROME and activation steering act alike here")
    assert "less that under steering is +0.5 points at 5 % (1 class)" in compare_rome(near)
    half = [dataclasses.replace(row, target_accuracy=0.5) for row in near]
    far = [_row("rome", "a", 0.90), _row("steering", "a", 0.86)]
    assert "do not act alike" in compare_rome([*half, *far])
    assert "+0.5 points at 50 % (1 class) and +4.0 points at 5 % (1 class)" in compare_rome([*half, *far])
    assert compare_rome(near[:1]) == ""


def test_one_quantity_has_one_value_in_the_comparison(audit: AuditResult) -> None:
    """Table, figure and sentence take others' accuracy from the joint summary."""
    parts = build_interventions(audit, HTML).parts
    sentences = " ".join(text for pair in parts["ranking"] for text in pair)
    figure = str(parts["figure"].charts[0].svg)
    for table, target in zip(parts["summary"], (0.5, 0.05), strict=True):
        assert table.caption.startswith(f"Class at {100 * target:g} % accuracy")
        own = [summary for summary in audit.intervention_summary if summary.target_accuracy == target]
        for row, summary in zip(table.rows, own, strict=True):
            assert row[2].text == percent(summary.others_accuracy)
            assert row[3].text == percent_interval(summary.low, summary.high)
            if not is_null(summary.method):
                assert f"{label_method(summary.method)} {row[2].text} ({row[3].text}" in sentences
        assert "area" not in " ".join(column.header.lower() for column in table.columns)
    assert "95 % interval" in figure
    assert "mean of the" not in figure


def test_an_older_audit_is_not_compared(audit: AuditResult) -> None:
    parts = build_interventions(dataclasses.replace(audit, intervention_summary=()), HTML).parts
    assert parts["any"]
    assert parts["figure"] is None
    assert parts["summary"] == []
