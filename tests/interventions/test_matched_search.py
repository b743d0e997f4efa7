"""The search for matched strengths, against the edited heads themselves and by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from salve_audit.interventions.affine import AffineHead, Intervention, RankOneEdit, rank_one_intervention
from salve_audit.interventions.comparison import ComparisonInputs
from salve_audit.interventions.context import EditContext, float64_head
from salve_audit.interventions.registry import METHODS
from salve_audit.interventions.salve import enhance, scaled_suppression
from salve_audit.interventions.samples import AuditSamples, edit_logits, sort_samples
from salve_audit.interventions.search import class_events, find_least_strengths
from salve_audit.reliance.crossings import count_wrong
from salve_audit.reliance.margins import MarginEvents
from salve_audit.reliance.thresholds import thresholds

TARGETS = np.array([0.5, 0.05])


@pytest.fixture(scope="module")
def samples(world: ComparisonInputs) -> AuditSamples:
    return sort_samples(world.audit_acts, world.audit_labels, float64_head(world.head))


def direct_accuracy(intervention: Intervention, samples: AuditSamples, class_index: int, strength: float) -> float:
    logits = intervention.head(strength).logits(samples.acts[samples.rows_of(class_index)])
    rivals = np.delete(logits, class_index, axis=1).max(axis=1)
    return float(np.mean(logits[:, class_index] > rivals))


@pytest.mark.parametrize("method", METHODS)
def test_between_any_two_events_the_accuracy_is_that_of_the_edited_head(
    method: str, context: EditContext, samples: AuditSamples
) -> None:
    intervention, index = METHODS[method].build(context), context.class_index
    strengths, wrong = count_wrong(class_events(edit_logits(samples, [intervention])[0], index))
    assert len(strengths) > 40
    ends = np.append(strengths, 1.1 * strengths[-1])
    wide = np.flatnonzero(np.diff(ends) > 1e-9 * ends[1:])
    expected = [direct_accuracy(intervention, samples, index, float(ends[i : i + 2].mean())) for i in wide]
    np.testing.assert_allclose(1.0 - wrong[wide] / samples.counts[index], expected, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_the_matched_strength_is_the_smallest(method: str, context: EditContext, samples: AuditSamples) -> None:
    intervention, index = METHODS[method].build(context), context.class_index
    events = class_events(edit_logits(samples, [intervention])[0], index)
    strengths, reached = find_least_strengths(events, TARGETS, intervention.max_strength)
    for target, strength, is_reached in zip(TARGETS, strengths, reached, strict=True):
        end = strength * (1 - 1e-7) if is_reached else 100.0 * intervention.unit
        weaker = [direct_accuracy(intervention, samples, index, t) for t in np.linspace(0.0, end, 800)]
        assert min(weaker) > target
        if is_reached:
            assert direct_accuracy(intervention, samples, index, float(strength)) <= target


def test_salve_at_half_is_the_empirical_threshold_of_the_class(context: EditContext, samples: AuditSamples) -> None:
    own = samples.acts[samples.rows_of(context.class_index)]
    sample_thresholds = thresholds(own, context.head.weight, context.head.bias, context.coupling, context.class_index)
    intervention = METHODS["salve"].build(context)
    events = class_events(edit_logits(samples, [intervention])[0], context.class_index)
    strength = find_least_strengths(events, np.array([0.5]), intervention.max_strength)[0][0]
    assert 0 < strength == pytest.approx(sample_thresholds.empirical * context.coupling.max(), rel=2e-9)


def events_of(correct: list[bool], down: list[float], up: list[float]) -> MarginEvents:
    return MarginEvents(np.array(correct), np.full(len(correct), np.nan), np.array(down), np.array(up))


def test_a_dip_narrower_than_any_grid_is_seen() -> None:
    dip = events_of([True] * 6 + [False] * 4, down=[2.0] * 6 + [7.0] * 3, up=[2.0 + 1e-6] * 4)
    strengths, reached = find_least_strengths(dip, np.array([0.05, 0.1, 0.4]), 1e6)
    assert reached.all()
    np.testing.assert_allclose(strengths, 2.0, rtol=2e-9)
    assert np.all(strengths > 2.0)


def test_an_accuracy_that_holds_at_one_point_alone_does_not_count() -> None:
    swap = events_of([True] * 5 + [False] * 5, down=[2.0] * 5 + [3.0] * 2, up=[2.0] * 5)
    strengths, reached = find_least_strengths(swap, np.array([0.0, 0.3]), 1e6)
    assert reached.tolist() == [False, True]
    np.testing.assert_allclose(strengths, 3.0, rtol=2e-9)


def test_a_target_that_is_never_reached_gives_the_smallest_strength_with_the_lowest_accuracy() -> None:
    events = events_of([True] * 10, down=[1.0, 2.0, 5.0, 9.0], up=[3.0, 7.0])
    strengths, reached = find_least_strengths(events, np.array([0.5]), 1e6)
    assert not reached[0]
    assert strengths[0] == pytest.approx(2.0)
    assert find_least_strengths(events, np.array([0.5]), 1.5)[0][0] == pytest.approx(1.0)


def test_a_class_below_the_target_from_the_start_needs_no_strength() -> None:
    events = events_of([True] * 3 + [False] * 7, down=[1.0], up=[0.0, 0.0, 0.0])
    strengths, reached = find_least_strengths(events, np.array([0.3]), 1e6)
    assert (strengths[0], reached[0]) == (0.0, True)


def test_an_accuracy_equal_to_the_target_counts_as_reached() -> None:
    strengths, reached = find_least_strengths(events_of([True] * 500, down=[1.0] * 475, up=[]), np.array([0.05]), 1e6)
    assert reached[0]
    assert strengths[0] == pytest.approx(1.0)


def test_a_head_without_biases_is_erased_where_all_its_weights_are_gone() -> None:
    acts = np.array([[1.0, 1.0], [2.0, 1.0], [5.0, 0.3]], dtype=np.float32)
    head = AffineHead(np.eye(2), np.zeros(2))
    coupling = np.array([0.41, 1.0])
    assert (1.0 / 0.41) * 0.41 < 1.0  # so that float64 leaves a remnant at the last breakpoint
    intervention = scaled_suppression("salve", head, coupling, 0)
    samples = sort_samples(acts, np.array([0, 0, 0]), head)
    events = class_events(edit_logits(samples, [intervention])[0], 0)
    strengths, reached = find_least_strengths(events, np.array([0.0]), intervention.max_strength)
    assert reached[0]
    assert strengths[0] == pytest.approx(1 / 0.41)
    assert not intervention.head(float(strengths[0])).weight.any()


def test_an_edit_of_neither_form_is_refused(context: EditContext, samples: AuditSamples) -> None:
    with pytest.raises(AssertionError, match="salve-enhance has no form"):
        class_events(edit_logits(samples, [enhance(context)])[0], context.class_index)


@pytest.mark.parametrize("slope", [1.0, 0.0, -1.0])
def test_a_tie_counts_as_wrong(slope: float) -> None:
    acts = np.array([[1.0], [2.0]], dtype=np.float32)
    head = AffineHead(np.array([[1.0], [1.0]]), np.zeros(2))  # all logits tie
    samples = sort_samples(acts, np.array([0, 0]), head)
    edit = RankOneEdit(left=np.zeros(2), right=np.zeros(1), bias=np.array([slope, 0.0]))
    edited = edit_logits(samples, [rank_one_intervention("tie", head, edit)])[0]
    strengths = np.array([0.0, 0.5])
    expected = [0.0, float(slope > 0)]
    events = class_events(edited, 0)
    assert not events.correct.any()
    assert events.up.tolist() == ([0.0, 0.0] if slope > 0 else [])
    np.testing.assert_array_equal(edited.correct(strengths).mean(axis=1), expected)


@pytest.mark.parametrize("method", METHODS)
def test_blocks_give_the_same_answers(
    method: str, build_context: Callable[..., EditContext], world: ComparisonInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = build_context(world)
    samples = sort_samples(world.audit_acts, world.audit_labels, context.head)
    edited = edit_logits(samples, [METHODS[method].build(context)])[0]
    strengths = np.linspace(0, 3 * edited.intervention.unit, 7)
    whole = edited.correct(strengths)
    monkeypatch.setattr("salve_audit.interventions.samples.BLOCK_VALUES", 300)
    np.testing.assert_array_equal(edited.correct(strengths), whole)
