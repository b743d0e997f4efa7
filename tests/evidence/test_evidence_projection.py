"""Concepts as oblique projections: what they remove, and what they leave."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salve_audit.evidence.projection import ConceptProjection, combine, fit_projection, mix_moments


def moment(positions: np.ndarray) -> np.ndarray:
    return positions.T @ positions / len(positions)


def planted(seed: int, d: int, rank: int, n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Background with strong directions of its own, the concept's directions, and codes of it."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(d, d)) * np.geomspace(3, 0.05, d)
    background = np.maximum(rng.normal(size=(n, d)) @ mixing, 0)
    directions = rng.normal(size=(rank, d))
    return background, directions, rng.uniform(1, 2, size=(n, rank))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(4, 24), st.integers(1, 3))
def test_it_is_a_projection_that_leaves_nothing_it_reads(seed: int, d: int, rank: int) -> None:
    background, directions, codes = planted(seed, d, rank)
    projection = fit_projection(moment(codes @ directions), moment(background), rank)
    assert projection is not None
    assert projection.rank == rank
    np.testing.assert_allclose(projection.readout @ projection.directions.T, np.eye(rank), atol=1e-8)
    matrix = projection.matrix(1.0)
    np.testing.assert_allclose(matrix @ matrix, matrix, atol=1e-7 * np.abs(matrix).max() ** 2)
    positions = background[:50] + codes[:50] @ directions
    np.testing.assert_allclose(positions @ matrix @ projection.readout.T, 0, atol=1e-7 * np.abs(positions).max())
    # what the concept writes is gone whatever it is written onto
    np.testing.assert_allclose(positions @ matrix, background[:50] @ matrix, atol=1e-6 * np.abs(positions).max())
    values = torch.from_numpy(positions).reshape(5, 10, d)
    left = values - 0.4 * projection.part(values)
    np.testing.assert_allclose(left.reshape(50, d).numpy(), positions @ projection.matrix(0.4), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(6, 24))
def test_no_readout_of_the_same_directions_reads_less_of_the_background(seed: int, d: int) -> None:
    background, directions, codes = planted(seed, d, 1)
    projection = fit_projection(moment(codes @ directions), moment(background), 1, shrinkage=0.0)
    assert projection is not None
    least = np.square(background @ projection.readout.T).mean()
    # what an orthogonal projection reads by
    unit = projection.directions[0] / np.linalg.norm(projection.directions[0]) ** 2
    rng = np.random.default_rng(seed)
    for _ in range(5):
        other = rng.normal(size=d)
        other = projection.readout[0] + 0.1 * (
            other - (other @ projection.directions[0]) * unit
        )  # still reads the direction as 1
        assert other @ projection.directions[0] == pytest.approx(1)
        assert np.square(background @ other).mean() >= least * (1 - 1e-9)
    assert np.square(background @ unit).mean() >= least * (1 - 1e-9)


def test_shrinking_without_end_gives_the_orthogonal_projection() -> None:
    background, directions, codes = planted(0, 12, 2)
    projection = fit_projection(moment(codes @ directions), moment(background), 2, shrinkage=1e9)
    assert projection is not None
    basis = np.linalg.qr(directions.T)[0]
    np.testing.assert_allclose(projection.matrix(1.0), np.eye(12) - basis @ basis.T, atol=1e-6)


def test_a_concept_without_a_trace_has_none() -> None:
    background = moment(planted(0, 8, 1)[0])
    assert fit_projection(np.zeros((8, 8)), background, 1) is None
    assert fit_projection(np.full((8, 8), np.nan), background, 1) is None
    assert fit_projection(np.eye(8), np.full((8, 8), np.inf), 1) is None
    direction = np.eye(8)[:1]
    single = fit_projection(direction.T @ direction, background, rank=3)
    assert single is not None
    assert single.rank == 1, "there are no further directions"


def test_several_are_removed_one_after_another() -> None:
    rng = np.random.default_rng(0)
    positions, total = rng.normal(size=(7, 5)), rng.normal(size=(7, 5))
    removals = []
    for strength in (0.5, 1.0):
        directions, readout = rng.normal(size=(2, 1, 5))
        removals.append((ConceptProjection(directions, readout / (readout @ directions.T)), strength))
    total = positions
    for projection, strength in removals:
        total = total - strength * (total @ projection.readout.T) @ projection.directions
    np.testing.assert_allclose(positions @ combine(removals), total)


def test_moments_mix_by_their_weights() -> None:
    first, second = np.eye(2), np.diag([3.0, 5.0])
    np.testing.assert_allclose(mix_moments([(1.0, first), (3.0, second)]), np.diag([2.5, 4.0]))
