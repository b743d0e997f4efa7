"""Methods over all classes, against the results they sum up and a bootstrap done the slow way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from salve_audit.interventions.comparison import Comparison, ComparisonInputs, ComparisonSettings
from salve_audit.interventions.context import EditContext
from salve_audit.interventions.matched import compare_interventions
from salve_audit.interventions.registry import METHODS
from salve_audit.interventions.summary import ClassDraws, summarise_methods
from salve_audit.results import InterventionResult

SETTINGS = ComparisonSettings(n_bootstrap=300)


@pytest.fixture(scope="module")
def comparison(world: ComparisonInputs) -> Comparison:
    return compare_interventions(SETTINGS, world)


def test_every_summary_follows_from_the_results(comparison: Comparison) -> None:
    assert [(s.method, s.target_accuracy) for s in comparison.summary] == [
        (method, target) for method in METHODS for target in SETTINGS.targets
    ]
    for summary in comparison.summary:
        rows = [
            r for r in comparison.results if (r.method, r.target_accuracy) == (summary.method, summary.target_accuracy)
        ]
        scaled = {
            r.class_name: r.others_accuracy
            for r in comparison.results
            if r.method == "row-scaling" and r.target_accuracy == summary.target_accuracy and r.reached
        }
        pairs = [r.others_accuracy - scaled[r.class_name] for r in rows if r.reached and r.class_name in scaled]
        assert (summary.n_classes, summary.n_reached, summary.n_common) == (
            len(rows),
            sum(r.reached for r in rows),
            len(pairs),
        )
        assert summary.others_accuracy == pytest.approx(np.mean([r.others_accuracy for r in rows]))
        assert summary.area == pytest.approx(np.mean([r.area for r in rows]))
        assert summary.low < summary.others_accuracy < summary.high
        assert summary.difference == (pytest.approx(np.mean(pairs)) if pairs else None)
        if summary.method == "row-scaling":
            assert (summary.difference, summary.difference_low, summary.difference_high) == (0.0, 0.0, 0.0)


def test_the_paired_interval_is_that_of_a_bootstrap_over_samples(
    comparison: Comparison, world: ComparisonInputs, build_context: Callable[..., EditContext]
) -> None:
    labels, target = world.audit_labels, 0.5
    right: dict[str, list[np.ndarray]] = {"ablation": [], "row-scaling": []}
    for result in (r for r in comparison.results if r.method in right and r.target_accuracy == target):
        assert result.reached
        index = world.class_names.index(result.class_name)
        head = METHODS[result.method].build(build_context(world, class_index=index)).head(result.strength)
        logits = head.logits(world.audit_acts.astype(np.float64))
        right[result.method].append(logits.argmax(axis=1) == labels)
    rng = np.random.default_rng(7)
    n_classes = len(world.class_names)
    members = [np.flatnonzero(labels == k) for k in range(n_classes)]
    means, differences = [], []
    for _ in range(1500):
        drawn = [rng.choice(own, size=len(own)) for own in members]
        costs = {
            method: np.mean(
                [
                    np.mean([right[drawn[k]].mean() for k in range(n_classes) if k != i])
                    for i, right in enumerate(correct)
                ]
            )
            for method, correct in right.items()
        }
        means.append(costs["ablation"])
        differences.append(costs["ablation"] - costs["row-scaling"])
    summary = next(s for s in comparison.summary if (s.method, s.target_accuracy) == ("ablation", target))
    width = np.ptp(np.quantile(differences, [0.025, 0.975]))
    tolerance = 0.2 * width  # 300 draws
    low, high = np.quantile(differences, [0.025, 0.975])
    assert summary.difference_low == pytest.approx(low, abs=tolerance)
    assert summary.difference_high == pytest.approx(high, abs=tolerance)
    low, high = np.quantile(means, [0.025, 0.975])
    assert (summary.low, summary.high) == pytest.approx((low, high), abs=0.2 * (high - low))


def result_of(method: str, class_name: str, others: float, reached: bool) -> InterventionResult:
    return InterventionResult(
        method, class_name, None, 1.0, 0.05, 0.04, reached, others, others, 0.0, 1.0, 0.1, 0.5, others, others
    )


def test_only_classes_in_which_both_reach_are_paired() -> None:
    rows = [("a", 0.80, True, 0.90, True), ("b", 0.99, False, 0.90, True), ("c", 0.70, True, 0.90, False)]
    draws = np.array([[0.7, 0.9], [0.8, 0.9], [0.9, 0.9]])  # of the method and of row scaling
    classes = [
        ClassDraws((result_of("salve", name, own, ok), result_of("row-scaling", name, base, base_ok)), draws)
        for name, own, ok, base, base_ok in rows
    ]
    salve, scaled = summarise_methods(classes)
    assert (salve.n_classes, salve.n_reached, salve.n_common) == (3, 2, 1)
    assert salve.difference == pytest.approx(-0.1)
    assert salve.others_accuracy == pytest.approx((0.80 + 0.99 + 0.70) / 3)
    assert (salve.difference_low, salve.difference_high) == pytest.approx((-0.195, -0.005))
    assert (salve.low, salve.high) == pytest.approx((0.705, 0.895))
    assert (scaled.n_common, scaled.difference) == (2, 0.0)
    alone = summarise_methods(classes[1:])[0]
    assert (alone.n_common, alone.difference, alone.difference_low, alone.difference_high) == (0, None, None, None)


def test_without_row_scaling_nothing_is_paired(world: ComparisonInputs) -> None:
    comparison = compare_interventions(dataclasses.replace(SETTINGS, methods=("salve",), n_bootstrap=20), world)
    assert [(s.n_classes, s.n_common, s.difference) for s in comparison.summary] == [(5, 0, None)] * 2


def test_without_methods_there_is_nothing(world: ComparisonInputs) -> None:
    comparison = compare_interventions(dataclasses.replace(SETTINGS, methods=(), n_bootstrap=20), world)
    assert comparison == Comparison((), (), ())
