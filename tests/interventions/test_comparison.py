"""The comparison's numbers, recomputed the slow way from the edited heads."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from scipy.special import rel_entr, softmax

from salve_audit.errors import UsageError
from salve_audit.interventions.affine import AffineHead, RankOneEdit, rank_one_intervention
from salve_audit.interventions.bootstrap import draw_others, draw_weights, percentile_interval
from salve_audit.interventions.comparison import Comparison, ComparisonInputs, ComparisonSettings
from salve_audit.interventions.context import EditContext, float64_head
from salve_audit.interventions.matched import compare_interventions
from salve_audit.interventions.measure import compute_drift, match_accuracy, relative_change
from salve_audit.interventions.registry import METHODS, is_null
from salve_audit.interventions.salve import scaled_suppression
from salve_audit.interventions.samples import edit_logits, sort_samples

SETTINGS = ComparisonSettings(n_bootstrap=200)
FIXED = [name for name in METHODS if not is_null(name)]


@pytest.fixture(scope="module")
def comparison(world: ComparisonInputs) -> Comparison:
    return compare_interventions(SETTINGS, world)


def strict_correct(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    own = logits[np.arange(len(labels)), labels]
    rivals = logits.copy()
    rivals[np.arange(len(labels)), labels] = -np.inf
    return np.asarray(own > rivals.max(axis=1))


def test_there_is_a_result_for_every_class_method_and_target(comparison: Comparison, world: ComparisonInputs) -> None:
    expected = [(c, m, t) for c in world.class_names for m in METHODS for t in SETTINGS.targets]
    assert [(r.class_name, r.method, r.target_accuracy) for r in comparison.results] == expected


@pytest.mark.parametrize("method", FIXED)
def test_every_number_follows_from_the_edited_head(
    method: str, comparison: Comparison, world: ComparisonInputs, build_context: Callable[..., EditContext]
) -> None:
    acts, labels = world.audit_acts.astype(np.float64), world.audit_labels
    original = float64_head(world.head)
    before = original.logits(acts)
    for result in (r for r in comparison.results if r.method == method):
        index = world.class_names.index(result.class_name)
        intervention = METHODS[method].build(build_context(world, class_index=index))
        head = intervention.head(result.strength)
        logits = head.logits(acts)
        correct = strict_correct(logits, labels)
        others = [correct[labels == k].mean() for k in range(len(world.class_names)) if k != index]
        rest = labels != index
        kl = rel_entr(softmax(before[rest], axis=1), softmax(logits[rest], axis=1)).sum(axis=1).mean()
        agreement = np.mean(before[rest].argmax(axis=1) == logits[rest].argmax(axis=1))

        assert result.reached_accuracy == pytest.approx(correct[labels == index].mean())
        assert result.reached == (result.reached_accuracy <= result.target_accuracy)
        assert result.others_accuracy == pytest.approx(np.mean(others))
        assert result.others_worst == pytest.approx(np.min(others))
        assert result.kl == pytest.approx(kl, rel=1e-9, abs=1e-12)
        assert result.agreement == pytest.approx(agreement)
        assert result.weight_change == pytest.approx(
            np.sqrt(((head.weight - original.weight) ** 2).sum() / (original.weight**2).sum())
        )
        assert result.bias_change == pytest.approx(
            np.sqrt(((head.bias - original.bias) ** 2).sum() / (original.bias**2).sum())
        )
        assert result.low <= result.others_accuracy <= result.high
        assert 0 <= result.area <= 1
        assert result.feature == intervention.feature
        if result.reached and result.strength > 0:
            weaker = intervention.head(result.strength * (1 - 1e-7)).logits(acts)
            assert strict_correct(weaker, labels)[labels == index].mean() > result.target_accuracy


def test_weights_and_biases_are_compared_apart(comparison: Comparison) -> None:
    weight = np.array([[3.0, 0.0], [0.0, 4.0]])
    assert relative_change(weight, np.zeros((2, 2))) == 1.0
    assert relative_change(weight, weight + np.array([[0.0, 1.0], [0.0, 0.0]])) == pytest.approx(0.2)
    assert relative_change(np.zeros(2), np.ones(2)) == 0.0  # no bias
    for result in (r for r in comparison.results if r.strength > 0):
        assert (result.weight_change > 0) == (result.method not in {"steering", "mean-difference"})
        moves_bias = {"steering", "mean-difference", "leace", "last-layer-retraining", "row-scaling"}
        assert (result.bias_change > 0) == (result.method in moves_bias)


def test_drift_is_zero_without_an_edit_and_finite_for_huge_logits(
    context: EditContext, world: ComparisonInputs
) -> None:
    samples = sort_samples(world.audit_acts, world.audit_labels, context.head)
    edited = edit_logits(samples, [METHODS["steering"].build(context)])[0]
    unmoved, moved = compute_drift(edited, 1, 0.0), compute_drift(edited, 1, 1e5)
    assert (unmoved.kl, unmoved.agreement) == (0.0, 1.0)
    kl, agreement = moved.kl, moved.agreement
    assert 1e3 < kl < np.inf
    assert agreement < 1


def test_the_area_of_an_edit_worked_out_by_hand() -> None:
    # Both classes sink by t below the third, which has no samples. Class 0 loses one of ten samples at each of
    # t = 0.5, 1.5, …; class 1 loses half of its samples at t = 3, between suppressions of 0.3 and 0.4.
    own = np.column_stack([np.arange(10) + 0.5, np.full(10, -50.0)])
    other = np.column_stack([np.full(10, -50.0), np.repeat([3.0, 100.0], 5)])
    head = AffineHead(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), np.zeros(3))
    samples = sort_samples(np.concatenate([own, other]), np.repeat([0, 1], 10), head)
    edit = RankOneEdit(left=np.zeros(3), right=np.zeros(2), bias=np.array([-1.0, -1.0, 0.0]))
    sinking = rank_one_intervention("sink", head, edit)
    matched = match_accuracy(edit_logits(samples, [sinking])[0], 0, np.array([0.5]))
    assert matched.strengths[0] == pytest.approx(4.5)
    np.testing.assert_array_equal(matched.accuracies, [[0.5, 0.5, 0.0]])
    assert matched.area == pytest.approx(0.3 * 1.0 + 0.1 * 0.75 + 0.6 * 0.5)


def test_the_area_stops_where_the_class_cannot_be_suppressed_further(world: ComparisonInputs) -> None:
    head = float64_head(world.head)
    samples = sort_samples(world.audit_acts, world.audit_labels, head)
    nothing = edit_logits(samples, [scaled_suppression("nothing", head, np.zeros(head.weight.shape[1]), 0)])[0]
    matched = match_accuracy(nothing, 0, np.array([0.05]))
    assert not matched.reached[0]
    assert matched.area == pytest.approx(0.05)  # half of the first of ten trapezoids


def test_one_seed_gives_one_result_whatever_else_is_compared(comparison: Comparison, world: ComparisonInputs) -> None:
    assert compare_interventions(SETTINGS, world) == comparison
    for method in METHODS:
        alone = compare_interventions(dataclasses.replace(SETTINGS, methods=(method,)), world)
        assert alone.results == tuple(r for r in comparison.results if r.method == method)
        assert alone.spreads == tuple(s for s in comparison.spreads if s.method == method)


def test_nor_do_projections_in_single_precision_depend_on_it(
    world: ComparisonInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("salve_audit.interventions.samples.SINGLE_VALUES", 10)
    monkeypatch.setattr("salve_audit.interventions.samples.CACHED_VALUES", 1000)  # several blocks, the last one shorter
    together = compare_interventions(dataclasses.replace(SETTINGS, methods=("steering", "rome", "inlp")), world)
    alone = compare_interventions(dataclasses.replace(SETTINGS, methods=("rome",)), world)
    assert alone.results == tuple(r for r in together.results if r.method == "rome")


def test_the_inputs_are_left_as_they_are(world: ComparisonInputs) -> None:
    arrays = {f.name: getattr(world, f.name) for f in dataclasses.fields(world)}
    before = {key: value.copy() for key, value in arrays.items() if isinstance(value, np.ndarray)}
    weight = world.head.weight.copy()
    compare_interventions(dataclasses.replace(SETTINGS, n_keys=2), world)
    for key, value in before.items():
        np.testing.assert_array_equal(arrays[key], value)
    np.testing.assert_array_equal(world.head.weight, weight)


def test_spreads_are_over_the_keys_that_reach_the_target(comparison: Comparison) -> None:
    assert {s.method for s in comparison.spreads} <= {key for key, method in METHODS.items() if method.keyed}
    assert comparison.spreads
    for spread in comparison.spreads:
        assert 1 <= spread.n_keys <= SETTINGS.n_keys
        assert 0 <= spread.low <= spread.median <= spread.high <= 1


def test_a_class_without_samples_is_left_out_and_named(
    world: ComparisonInputs, caplog: pytest.LogCaptureFixture
) -> None:
    keep = world.audit_labels != 3
    thinned = dataclasses.replace(world, audit_acts=world.audit_acts[keep], audit_labels=world.audit_labels[keep])
    with caplog.at_level(logging.WARNING):
        comparison = compare_interventions(dataclasses.replace(SETTINGS, methods=("salve", "rome")), thinned)
    assert {r.class_name for r in comparison.results} == {"class 0", "class 1", "class 2", "class 4"}
    assert "class 3" in caplog.text
    only = dataclasses.replace(world, audit_acts=world.audit_acts[~keep], audit_labels=world.audit_labels[~keep])
    assert compare_interventions(SETTINGS, only).results == ()


def test_a_null_without_latents_is_left_out_and_named_once(world: ComparisonInputs) -> None:
    alive = np.arange(len(world.dictionary)) < len(world.class_names)  # only dominant latents fire
    settings = dataclasses.replace(SETTINGS, methods=("salve", "null-random"))
    comparison = compare_interventions(settings, dataclasses.replace(world, alive=alive))
    n = len(world.class_names)
    assert comparison.notes == (f"null-random has nothing to act on in {n} classes and is left out there.",)
    assert {r.method for r in comparison.results} == {"salve"}
    assert len(comparison.results) == len(world.class_names) * len(SETTINGS.targets)


def test_a_class_that_is_wrong_from_the_start_needs_no_edit(world: ComparisonInputs) -> None:
    bias = world.head.bias.copy()
    bias[2] = -100.0
    lost = dataclasses.replace(world, head=dataclasses.replace(world.head, bias=bias))
    comparison = compare_interventions(SETTINGS, lost)
    for result in (r for r in comparison.results if r.class_name == "class 2"):
        assert (result.strength, result.reached, result.reached_accuracy) == (0.0, True, 0.0)
        assert (result.weight_change, result.kl, result.agreement) == (0.0, 0.0, 1.0)


def test_settings_name_what_is_wrong() -> None:
    with pytest.raises(UsageError, match="interventions: 'romex' is not one of salve, steering"):
        ComparisonSettings(methods=("romex",))
    with pytest.raises(UsageError, match=r"targets: 1\.5 is not between 0 and 1"):
        ComparisonSettings(targets=(1.5,))
    with pytest.raises(UsageError, match="n_bootstrap: 0 is below 1"):
        ComparisonSettings(n_bootstrap=0)


class TestBootstrap:
    def test_every_class_is_drawn_to_its_own_size(self) -> None:
        counts = np.array([7, 0, 30])
        weights = draw_weights(counts, 400, np.random.default_rng(0))
        np.testing.assert_array_equal(weights[:, :7].sum(axis=1), 7)
        np.testing.assert_array_equal(weights[:, 7:].sum(axis=1), 30)
        np.testing.assert_array_equal(weights, np.round(weights))
        np.testing.assert_allclose(weights.mean(axis=0), 1.0, rtol=0.35)
        assert weights[:, 7:].var() == pytest.approx(1 - 1 / 30, rel=0.05)  # multinomial: n p (1 − p)

    def test_the_accuracy_in_a_draw_is_counted_exactly(self) -> None:
        rng = np.random.default_rng(2)
        counts = np.array([40, 40, 0, 13, 40, 40, 9])
        head = AffineHead(np.zeros((7, 1)), np.zeros(7))
        labels = np.repeat(np.arange(7), counts)
        samples = sort_samples(np.zeros((len(labels), 1), dtype=np.float32), labels, head)
        weights = draw_weights(counts, 50, rng)
        correct = rng.random((9, len(labels))) < 0.8
        others = draw_others(weights, correct, samples, 1)
        for draw, row in np.ndindex(50, 9):
            hits = [int(weights[draw, (labels == k) & correct[row]].sum()) for k in range(7)]
            exact = sum(Fraction(hits[k], int(counts[k])) for k in (0, 3, 4, 5, 6)) / 5
            assert others[draw, row] == pytest.approx(float(exact), rel=8 * np.finfo(np.float64).eps)
        for row in range(9):  # the number of rows decides which kernel multiplies, and in what order it adds up
            np.testing.assert_array_equal(
                draw_others(weights, correct[row : row + 1], samples, 1)[:, 0], others[:, row]
            )

    def test_the_interval_covers_the_true_accuracy(self) -> None:
        rng = np.random.default_rng(1)
        truth, n, n_worlds = np.array([0.5, 0.9, 0.7, 0.8]), 120, 300
        head = AffineHead(np.zeros((4, 1)), np.zeros(4))
        samples = sort_samples(np.zeros((4 * n, 1), dtype=np.float32), np.repeat(np.arange(4), n), head)
        weights = draw_weights(samples.counts, 400, rng)
        correct = rng.random((n_worlds, 4 * n)) < np.repeat(truth, n)
        bounds = percentile_interval(draw_others(weights, correct, samples, 0))  # class 0 must not count
        expected = truth[1:].mean()
        covered = np.mean((bounds[:, 0] <= expected) & (expected <= bounds[:, 1]))
        assert 0.90 <= covered <= 0.985
        width = 2 * 1.96 * np.sqrt((truth[1:] * (1 - truth[1:]) / n).sum()) / 3
        assert np.mean(bounds[:, 1] - bounds[:, 0]) == pytest.approx(width, rel=0.08)
