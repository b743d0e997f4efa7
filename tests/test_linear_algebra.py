"""Every decomposition holds where LAPACK's usual routine may not: dead channels, few rows, no convergence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from salve_audit import linear_algebra
from salve_audit.linear_algebra import (
    decompose_rows,
    decompose_symmetric,
    decompose_tensor,
    factorise,
    solve_symmetric,
)

D = 60


def moment(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = {"few rows": 7, "zero": 0, "one direction": 1}.get(kind, 400)
    acts = np.maximum(rng.normal(0, 1, (rows, D)), 0)
    if kind == "dead channels":
        acts[:, ::2] = 0
    if kind == "wide range":
        acts *= np.logspace(-12, 4, D)
    if kind == "float32":
        acts = acts.astype(np.float32)
        return acts.T @ acts
    return acts.T @ acts


KINDS = ("plain", "few rows", "dead channels", "wide range", "float32", "one direction", "zero")


@pytest.fixture(params=["usual", "no convergence"])
def lapack(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The usual routines, or such that never converge, as for some matrices on some processors."""
    if request.param == "no convergence":

        def fail(*arguments: object, **options: object) -> None:
            raise np.linalg.LinAlgError("did not converge")

        monkeypatch.setattr(linear_algebra.np.linalg, "eigh", fail)
        monkeypatch.setattr(linear_algebra.np.linalg, "svd", fail)
        monkeypatch.setattr(linear_algebra.np.linalg, "solve", fail)
        monkeypatch.setattr(torch.linalg, "eigh", _fail_in_torch)
    return str(request.param)


def _fail_in_torch(matrix: torch.Tensor) -> None:
    raise torch.linalg.LinAlgError("linalg.eigh: the algorithm failed to converge")


@pytest.mark.parametrize("kind", KINDS)
def test_eigenvectors(kind: str, lapack: str) -> None:
    matrix = moment(kind)
    values, vectors = decompose_symmetric(matrix)
    size = max(float(np.abs(matrix).max()), 1e-300)
    assert np.allclose(vectors.T @ vectors, np.eye(D), atol=1e-10)
    assert np.allclose((vectors * values) @ vectors.T, matrix, atol=1e-10 * size)
    assert (np.diff(values) >= -1e-10 * size).all()


def test_negative_eigenvalues_keep_their_sign(lapack: str) -> None:
    values, _ = decompose_symmetric(np.diag([3.0, -5.0, 1.0]))
    assert values == pytest.approx([-5, 1, 3])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_leading_eigenvectors_of_a_tensor(kind: str, dtype: torch.dtype, lapack: str) -> None:
    matrix = torch.from_numpy(moment(kind)).to(dtype)
    values, vectors = decompose_tensor(matrix)
    basis = vectors[:, -5:]
    assert (values.dtype, basis.dtype) == (dtype, dtype)
    torch.testing.assert_close(basis.T @ basis, torch.eye(5, dtype=dtype), atol=1e-5, rtol=0)
    kept = float((basis.T @ matrix @ basis).diagonal().sum())
    best = float(torch.from_numpy(np.sort(np.linalg.eigvalsh(matrix.double().numpy()))[-5:]).sum())
    assert kept == pytest.approx(best, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (1, 3)])
def test_singular_vectors(shape: tuple[int, int], lapack: str) -> None:
    rows = np.random.default_rng(0).normal(size=shape)
    rows[-1] = rows[0]
    values, basis = decompose_rows(rows)
    assert np.allclose(basis @ basis.T, np.eye(min(shape)), atol=1e-10)
    assert np.allclose(np.linalg.norm(rows @ basis.T, axis=0), values, atol=1e-10)


@pytest.mark.parametrize("kind", ["plain", "few rows", "dead channels", "one direction"])
def test_solutions_of_singular_systems_are_the_shortest(kind: str, lapack: str) -> None:
    matrix = moment(kind)
    columns = matrix @ np.random.default_rng(1).normal(size=(D, 2))
    solution = solve_symmetric(matrix, columns)
    assert np.allclose(matrix @ solution, columns, atol=1e-6 * np.abs(columns).max())
    assert solve_symmetric(matrix, columns[:, 0]).shape == (D,)
    if kind != "plain" and lapack == "no convergence":
        shortest = np.linalg.lstsq(matrix, columns, rcond=1e-12)[0]
        assert np.linalg.norm(solution) == pytest.approx(np.linalg.norm(shortest), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_factors(kind: str) -> None:
    matrix = np.asarray(moment(kind), np.float64)
    factor = factorise(matrix)
    level = float(np.trace(matrix)) / D or 1.0
    assert np.allclose(factor, np.tril(factor))
    assert np.allclose(factor @ factor.T, matrix, atol=1e-5 * level)
    assert (np.abs(np.diag(factor)) > 0).all()


def test_a_matrix_that_is_not_definite_gets_the_nearest_factor() -> None:
    factor = factorise(np.diag([4.0, -1e-3, 1.0]))
    assert np.isfinite(factor).all()
    assert factor[0, 0] ** 2 == pytest.approx(4, rel=1e-5)


@pytest.mark.parametrize("function", [decompose_symmetric, decompose_rows, factorise])
def test_nan_is_refused_and_never_decomposed(function) -> None:
    matrix = np.eye(3)
    matrix[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        function(matrix)
