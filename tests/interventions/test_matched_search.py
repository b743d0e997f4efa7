"""The search for matched strengths, against fine grids and by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salve_audit.interventions.affine import AffineHead, Intervention, RankOneEdit, rank_one_intervention
from salve_audit.interventions.comparison import ComparisonInputs
from salve_audit.interventions.context import EditContext, float64_head
from salve_audit.interventions.registry import METHODS
from salve_audit.interventions.samples import AuditSamples, ClassAccuracy, edit_logits, sort_samples
from salve_audit.interventions.search import find_strengths, strength_grid

TOLERANCE = np.array([1e-3, 1e-3])
TARGETS = np.array([0.5, 0.05])


@pytest.fixture(scope="module")
def samples(world: ComparisonInputs) -> AuditSamples:
    return sort_samples(world.audit_acts, world.audit_labels, float64_head(world.head))


def direct_accuracy(intervention: Intervention, samples: AuditSamples, class_index: int, strength: float) -> float:
    logits = intervention.head(strength).logits(samples.acts[samples.rows_of(class_index)])
    rivals = np.delete(logits, class_index, axis=1).max(axis=1)
    return float(np.mean(logits[:, class_index] > rivals))


@pytest.mark.parametrize("method", METHODS)
def test_class_accuracy_is_that_of_the_edited_head(method: str, context: EditContext, samples: AuditSamples) -> None:
    intervention = METHODS[method](context)
    accuracy = ClassAccuracy(edit_logits(samples, [intervention])[0], context.class_index)
    strengths = np.random.default_rng(0).uniform(0, 1, 70) ** 3 * intervention.max_strength
    expected = [direct_accuracy(intervention, samples, context.class_index, float(t)) for t in strengths]
    np.testing.assert_array_equal(accuracy(strengths), expected)


@pytest.mark.parametrize("method", METHODS)
def test_the_first_crossing_is_that_of_a_fine_grid(method: str, context: EditContext, samples: AuditSamples) -> None:
    intervention = METHODS[method](context)
    accuracy = ClassAccuracy(edit_logits(samples, [intervention])[0], context.class_index)
    strengths, reached = find_strengths(accuracy, strength_grid(intervention), TARGETS, TOLERANCE)
    for target, strength, found in zip(TARGETS, strengths, reached, strict=True):
        fine = np.linspace(0.0, strength if found else intervention.max_strength, 2000)
        along = [direct_accuracy(intervention, samples, context.class_index, float(t)) for t in fine]
        crossings = fine[np.array(along) <= target]
        assert found == bool(crossings.size)
        if found:
            assert crossings[0] == pytest.approx(strength, rel=1.6e-3)


@given(steps=st.lists(st.floats(0.001, 100.0), min_size=1, max_size=20, unique=True), target=st.floats(0.0, 1.0))
def test_a_falling_step_function_is_crossed_within_the_tolerance(steps: list[float], target: float) -> None:
    falls = np.sort(steps)
    grid = np.concatenate([np.linspace(0, 1, 17), np.geomspace(1, 200, 30)[1:]])
    strengths, reached = find_strengths(
        lambda t: np.mean(falls > t[:, None], axis=1), grid, np.array([target]), np.array([1e-3])
    )
    n_left = int(target * len(falls) + 1e-9)
    exact = 0.0 if n_left >= len(falls) else falls[len(falls) - n_left - 1]
    assert reached[0]
    assert exact <= strengths[0] <= exact * (1 + 1.01e-3)


def test_of_several_crossings_the_first_is_taken() -> None:
    def dips(t: np.ndarray) -> np.ndarray:
        return np.where((t > 2) & (t < 3) | (t > 6), 0.4, 0.9)

    strengths, reached = find_strengths(dips, np.linspace(0, 10, 41), np.array([0.5]), np.array([1e-3]))
    assert reached[0]
    assert strengths[0] == pytest.approx(2.0, rel=1.01e-3)


def test_a_target_that_is_never_reached_gives_the_lowest_accuracy() -> None:
    strengths, reached = find_strengths(
        lambda t: 0.6 + (t - 4.0) ** 2 / 100, np.linspace(0, 10, 11), np.array([0.5]), np.array([1e-3])
    )
    assert not reached[0]
    assert strengths[0] == 4.0


def test_a_class_below_the_target_from_the_start_needs_no_strength() -> None:
    strengths, reached = find_strengths(
        lambda t: 0.3 - 0.01 * t, np.linspace(0, 10, 11), np.array([0.5]), np.array([1e-3])
    )
    assert reached[0]
    assert strengths[0] == 0.0


def test_an_accuracy_equal_to_the_target_counts_as_reached() -> None:
    strengths, reached = find_strengths(
        lambda t: np.where(t >= 1, 25 / 500, 1.0), np.linspace(0, 2, 3), np.array([0.05]), np.array([1e-3])
    )
    assert reached[0]
    assert strengths[0] == pytest.approx(1.0, rel=1e-3)


def test_the_grid_is_even_up_to_the_unit_and_geometric_beyond() -> None:
    intervention = Intervention("any", lambda t: AffineHead(np.eye(2), np.zeros(2)), max_strength=1000.0, unit=2.0)
    grid = strength_grid(intervention)
    np.testing.assert_allclose(np.diff(grid[grid <= 2.0]), 2.0 / 16)
    beyond = grid[grid >= 2.0]
    np.testing.assert_allclose(beyond[1:] / beyond[:-1], (1000 / 2) ** (1 / (len(beyond) - 1)))
    assert grid[0] == 0
    assert grid[-1] == pytest.approx(1000)


@pytest.mark.parametrize("slope", [1.0, 0.0, -1.0])
def test_a_tie_counts_as_wrong(slope: float) -> None:
    acts = np.array([[1.0], [2.0]], dtype=np.float32)
    head = AffineHead(np.array([[1.0], [1.0]]), np.zeros(2))  # all logits tie
    samples = sort_samples(acts, np.array([0, 0]), head)
    edit = RankOneEdit(left=np.zeros(2), right=np.zeros(1), bias=np.array([slope, 0.0]))
    edited = edit_logits(samples, [rank_one_intervention("tie", head, edit)])[0]
    strengths = np.array([0.0, 0.5])
    expected = [0.0, float(slope > 0)]
    np.testing.assert_array_equal(ClassAccuracy(edited, 0)(strengths), expected)
    np.testing.assert_array_equal(edited.correct(strengths).mean(axis=1), expected)


@pytest.mark.parametrize("method", METHODS)
def test_blocks_give_the_same_answers(
    method: str, build_context: Callable[..., EditContext], world: ComparisonInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = build_context(world)
    samples = sort_samples(world.audit_acts, world.audit_labels, context.head)
    edited = edit_logits(samples, [METHODS[method](context)])[0]
    strengths = np.linspace(0, edited.intervention.max_strength, 7)
    whole, alone = edited.correct(strengths), ClassAccuracy(edited, 1)(strengths)
    monkeypatch.setattr("salve_audit.interventions.samples.BLOCK_VALUES", 300)
    np.testing.assert_array_equal(edited.correct(strengths), whole)
    np.testing.assert_array_equal(ClassAccuracy(edited, 1)(strengths), alone)
