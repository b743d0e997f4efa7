"""The smallest restoring change, against every active set of a brute-force solver and another optimiser."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, minimize

from salve_audit.interventions.affine import AffineHead
from salve_audit.stress import restoring
from salve_audit.stress.restoring import RestoringProblem


def _head(k: int, d: int, rng: np.random.Generator) -> AffineHead:
    return AffineHead(rng.normal(size=(k, d)), rng.normal(size=k))


def _half_spaces(head: AffineHead, index: int, direction: np.ndarray, act: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    unit = direction / np.linalg.norm(direction)
    rows = head.weight[index] - np.delete(head.weight, index, axis=0)
    logits = head.weight @ act + head.bias
    return rows - np.outer(rows @ unit, unit), np.delete(logits, index) - logits[index]


def _by_all_sets(rows: np.ndarray, lead: np.ndarray) -> float:
    """The least norm over all sets of constraints held with equality whose solution satisfies every constraint."""
    best = np.inf
    for size in range(len(rows) + 1):
        for chosen in map(list, itertools.combinations(range(len(rows)), size)):
            point = np.linalg.lstsq(rows[chosen], lead[chosen], rcond=None)[0] if chosen else np.zeros(rows.shape[1])
            if (rows @ point >= lead - 1e-9).all():
                best = min(best, float(np.linalg.norm(point)))
    return best


@pytest.mark.parametrize("seed", range(6))
def test_distance_is_the_least_over_all_active_sets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    head, direction, acts = _head(5, 7, rng), rng.normal(size=7), rng.normal(size=(12, 7))
    distances = RestoringProblem(head, 2, direction).distances(acts)
    expected = [_by_all_sets(*_half_spaces(head, 2, direction, act)) for act in acts]
    np.testing.assert_allclose(distances, expected, rtol=1e-7, atol=1e-12)
    assert (distances > 0).any()


def _square(point: np.ndarray) -> float:
    return float(point @ point)


def test_distance_agrees_with_a_general_optimiser() -> None:
    rng = np.random.default_rng(7)
    head, direction, acts = _head(9, 15, rng), rng.normal(size=15), rng.normal(size=(6, 15))
    distances = RestoringProblem(head, 0, direction).distances(acts)
    for act, distance in zip(acts, distances, strict=True):
        rows, lead = _half_spaces(head, 0, direction, act)
        meets = LinearConstraint(rows, lead, np.full(len(lead), np.inf))
        other = minimize(_square, np.zeros(15), constraints=meets, method="SLSQP", options={"ftol": 1e-14})
        assert np.sqrt(other.fun) == pytest.approx(distance, rel=1e-4, abs=1e-6)


def test_with_two_classes_it_is_a_projection() -> None:
    rng = np.random.default_rng(1)
    head, direction, acts = _head(2, 6, rng), rng.normal(size=6), rng.normal(size=(20, 6))
    unit = direction / np.linalg.norm(direction)
    row = head.weight[0] - head.weight[1]
    row = row - (row @ unit) * unit
    lead = head.logits(acts) @ np.array([-1.0, 1.0])
    expected = np.maximum(lead, 0) / np.linalg.norm(row)
    np.testing.assert_allclose(RestoringProblem(head, 0, direction).distances(acts), expected, rtol=1e-9)


def test_what_nothing_restores_is_infinite() -> None:
    """The rival differs from the class only along the direction that must stay, or is always ahead."""
    weight = np.array([[1.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    act, direction = np.array([[1.0, 0.0, 0.0]]), np.array([1.0, 0.0, 0.0])
    assert RestoringProblem(AffineHead(weight, np.zeros(3)), 0, direction).distances(act)[0] == np.inf
    same = AffineHead(np.ones((2, 3)), np.array([0.0, 1.0]))
    assert RestoringProblem(same, 0, np.zeros(3)).distances(act)[0] == np.inf
    # two rivals that ask for opposite sides of one direction
    between = AffineHead(np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]), np.array([0.0, 1.0, 1.0]))
    assert RestoringProblem(between, 0, np.zeros(2)).distances(np.zeros((1, 2)))[0] == np.inf


def test_a_sample_that_is_right_needs_nothing() -> None:
    head = AffineHead(np.eye(3), np.zeros(3))
    assert RestoringProblem(head, 1, np.zeros(3)).distances(np.array([[0.0, 2.0, 1.0]]))[0] == 0.0


def test_without_the_kept_row_the_change_is_never_larger() -> None:
    rng = np.random.default_rng(3)
    head, direction, acts = _head(6, 9, rng), rng.normal(size=9), rng.normal(size=(30, 9))
    held = RestoringProblem(head, 4, direction).distances(acts)
    free = RestoringProblem(head, 4, np.zeros(9)).distances(acts)
    assert (free <= held * (1 + 1e-9)).all()
    assert (free < 0.99 * held).any()


def test_many_rivals_are_solved_as_if_all_entered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    head, direction, acts = _head(60, 80, rng), rng.normal(size=80), rng.normal(size=(15, 80))
    grown = RestoringProblem(head, 8, direction).distances(acts)
    monkeypatch.setattr(restoring, "ALL_AT_ONCE", 100)
    np.testing.assert_allclose(grown, RestoringProblem(head, 8, direction).distances(acts), rtol=1e-6)


def test_scale_does_not_matter() -> None:
    """Edits leave heads of any size: the distance is the same where every logit is 1e-8 of what it was."""
    rng = np.random.default_rng(9)
    head, direction, acts = _head(8, 10, rng), rng.normal(size=10), rng.normal(size=(20, 10))
    small = AffineHead(1e-8 * head.weight, 1e-8 * head.bias)
    np.testing.assert_allclose(
        RestoringProblem(small, 3, direction).distances(acts),
        RestoringProblem(head, 3, direction).distances(acts),
        rtol=1e-6,
    )
