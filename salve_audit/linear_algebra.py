"""Decompositions and solutions that hold for rank-deficient matrices: wide layers after a ReLU have dead channels.

LAPACK's fastest routines may not converge, or refuse a matrix that is singular by rounding, and which one does depends
on the processor. Each function here computes in float64 and falls back on a slower routine that always ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from torch import Tensor

RANK = 1e-12  # singular values below this share of the largest are rounding
JITTER = (0.0, 1e-14, 1e-12, 1e-10, 1e-8, 1e-6)  # of the mean of the diagonal
GOOD = 1e-6  # relative residual, above which a solution is none


def decompose_symmetric(
    matrix: Float[np.ndarray, "d d"],
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]]:
    """Eigenvalues, ascending, and orthonormal eigenvectors as columns, of a symmetric matrix.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    symmetric = _finite(matrix)
    symmetric = (symmetric + symmetric.T) / 2
    try:
        values, vectors = np.linalg.eigh(symmetric)
        if np.isfinite(values).all() and np.isfinite(vectors).all():
            return values, vectors
    except np.linalg.LinAlgError:
        pass
    return _decompose_by_qr(symmetric)


def decompose_tensor(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """`decompose_symmetric` of a tensor, on its device and in its type."""
    import torch

    try:
        values, vectors = torch.linalg.eigh(matrix.double())
        if not bool(torch.isfinite(vectors).all()):
            raise RuntimeError("NaN")
    except RuntimeError:  # torch.linalg's own error is one
        pair = decompose_symmetric(matrix.double().cpu().numpy())
        values, vectors = (torch.from_numpy(np.ascontiguousarray(array)) for array in pair)
    return values.to(matrix), vectors.to(matrix)


def decompose_rows(rows: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, "r d"]]:
    """Singular values, descending, and orthonormal right singular vectors as rows; r = min(n, d).

    Raises:
        ValueError: a value is NaN or infinite.
    """
    finite = _finite(rows)
    try:
        _, values, basis = np.linalg.svd(finite, full_matrices=False)
        return values, basis
    except np.linalg.LinAlgError:
        import scipy.linalg

        _, values, basis = scipy.linalg.svd(finite, full_matrices=False, lapack_driver="gesvd")
        return values, basis


def solve_symmetric(
    matrix: Float[np.ndarray, "d d"], columns: Float[np.ndarray, "d ..."]
) -> Float[np.ndarray, "d ..."]:
    """``matrix⁻¹ columns``, or the shortest of the least-squares solutions where the matrix is singular."""
    matrix, columns = _finite(matrix), _finite(columns)
    try:
        solution = np.linalg.solve(matrix, columns)
        residual = float(np.abs(matrix @ solution - columns).max(initial=0.0))
        if np.isfinite(solution).all() and residual <= GOOD * float(np.abs(columns).max(initial=0.0)):
            return np.asarray(solution)
    except np.linalg.LinAlgError:
        pass
    values, basis = decompose_symmetric(matrix)
    significant = np.abs(values) > RANK * float(np.abs(values).max(initial=0.0))
    basis = basis[:, significant]
    scaled = (basis.T @ columns).T / values[significant]
    return np.asarray(basis @ scaled.T)


def factorise(matrix: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """L, lower triangular, with L Lᵀ the positive semi-definite matrix, or that with the smallest multiple of the
    identity that makes it definite."""
    symmetric = _finite(matrix)
    symmetric = (symmetric + symmetric.T) / 2
    level = float(np.trace(symmetric)) / max(len(symmetric), 1) or 1.0
    for jitter in JITTER:
        try:
            return np.asarray(np.linalg.cholesky(symmetric + jitter * level * np.eye(len(symmetric))))
        except np.linalg.LinAlgError:  # noqa: PERF203 - the next is larger
            continue
    values, vectors = decompose_symmetric(symmetric)
    root = vectors * np.sqrt(values.clip(min=JITTER[-1] * level))
    _, triangular = np.linalg.qr(root.T)
    return np.asarray(triangular.T)


def _decompose_by_qr(symmetric: Float[np.ndarray, "d d"]) -> tuple[Any, Any]:
    """By LAPACK's plain QR iteration, else by singular values, whose vectors are eigenvectors up to sign."""
    import scipy.linalg

    try:
        values, vectors = scipy.linalg.eigh(symmetric, driver="ev")
        return values, vectors
    except (np.linalg.LinAlgError, ValueError):
        left, sizes, right = scipy.linalg.svd(symmetric, lapack_driver="gesvd")
        values = sizes * np.sign(np.einsum("ij,ji->i", left.T, right.T))
        order = np.argsort(values)
        return values[order], left[:, order]


def _finite(matrix: np.ndarray) -> np.ndarray:
    wide = np.asarray(matrix, dtype=np.float64)
    if not np.isfinite(wide).all():
        raise ValueError("a matrix has NaN or infinite values")
    return wide
