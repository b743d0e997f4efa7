"""The smallest change of an activation that makes a class win under an affine head, exactly (docs/method.md §5.5).

For a sample a and a class i: minimise ``‖δ‖₂`` subject to ``e · δ = 0`` and, for every rival r,
``(W_i − W_r) (a + δ) + b_i − b_r ≥ 0``. With P the projection orthogonal to e and ``g_r = P (W_i − W_r)`` this is the
point nearest to 0 in an intersection of half-spaces ``g_r · δ ≥ h_r``, h_r the rival's lead: least distance
programming, solved by non-negative least squares in finitely many steps. It has no solution where the half-spaces do
not meet. A tie counts as restored: any step further makes the class win.

Source: Lawson and Hanson, Solving Least Squares Problems, chapter 23 (the LDP); the recovery problem: arXiv 2606.18322.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.optimize import nnls

from salve_audit.interventions.affine import AffineHead

ALL_AT_ONCE = 32  # rivals up to which all constraints enter at once; of more, those that a solution violates are added
ADDED = 8  # constraints added per round
TOLERANCE = 1e-7  # of the lower bound of the distance: by how much a solution may miss a half-space
FAR_BEHIND = 1e9  # times the lower bound: a rival so far behind asks for nothing
UNREACHABLE = 1e-12  # a distance beyond a million times the trivial lower bound counts as none


class RestoringProblem:
    """The half-spaces of one class under one head, shared by all its samples."""

    def __init__(self, head: AffineHead, class_index: int, encoder_row: Float[np.ndarray, " d"]) -> None:
        """`encoder_row` is e, (d,), the row whose product with the activation must stay; zeros: nothing must."""
        self.head, self.class_index = head, class_index
        rivals = np.delete(head.weight, class_index, axis=0)
        normals = head.weight[class_index] - rivals  # (k - 1, d)
        length = float(np.linalg.norm(encoder_row))
        unit = np.asarray(encoder_row, dtype=np.float64) / length if length > 0 else np.zeros(len(encoder_row))
        size = np.linalg.norm(normals, axis=1)
        normals = normals - np.outer(normals @ unit, unit)
        self.lengths = np.linalg.norm(normals, axis=1)
        self.lengths[self.lengths <= 1e-12 * size] = 0.0  # a rival that only the forbidden direction distinguishes
        self.normals = normals / np.where(self.lengths > 0, self.lengths, 1.0)[:, None]
        few = len(self.normals) <= ALL_AT_ONCE
        self._triangle = _triangle(self.normals) if few else None  # once for all samples

    def distances(self, acts: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """The norm of the smallest δ for every sample: 0 where the class wins already, inf where there is none."""
        logits = self.head.logits(acts)
        leads = np.delete(logits, self.class_index, axis=1) - logits[:, [self.class_index]]  # (n, k - 1)
        return np.array([self._distance(lead) for lead in leads])

    def _distance(self, lead: Float[np.ndarray, " r"]) -> float:
        if not len(lead) or lead.max() <= 0:
            return 0.0
        if (lead[self.lengths == 0] > 0).any():
            return np.inf
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = np.where(self.lengths > 0, lead / self.lengths, -np.inf)  # what each rival alone asks for
        scale = float(depth.max())  # a lower bound of the distance
        depth = np.maximum(depth / scale, -FAR_BEHIND)
        if self._triangle is None:
            return scale * self._with_growing_set(depth)
        point = nearest_point(self._triangle, depth)
        return np.inf if point is None else scale * float(np.linalg.norm(point))

    def _with_growing_set(self, depth: Float[np.ndarray, " r"]) -> float:
        """The distance among many rivals: solved for some of them, until the solution satisfies all."""
        chosen = np.argsort(-depth, kind="stable")[:ALL_AT_ONCE]
        while True:
            triangle, basis = _triangle_with_basis(self.normals[chosen])
            point = nearest_point(triangle, depth[chosen])
            if point is None:
                return np.inf  # already these do not meet
            missing = depth - self.normals @ (basis @ point)
            missing[chosen] = 0.0
            if missing.max() <= TOLERANCE:
                return float(np.linalg.norm(point))
            worst = np.argsort(-missing, kind="stable")[:ADDED]
            chosen = np.concatenate([chosen, worst[missing[worst] > 0]])


def nearest_point(normals: Float[np.ndarray, "q r"], depth: Float[np.ndarray, " r"]) -> Float[np.ndarray, " q"] | None:
    """The point x nearest to 0 with ``normals[:, j] · x ≥ depth[j]`` for all j; None where there is none.

    Args:
        normals: one unit normal per column.
        depth: scaled so that the largest is 1.
    """
    stacked = np.vstack([normals, depth])  # (q + 1, r)
    target = np.zeros(len(stacked))
    target[-1] = 1.0
    multipliers, _ = nnls(stacked, target, maxiter=50 * stacked.shape[1])
    residual = target - stacked @ multipliers
    if residual[-1] <= UNREACHABLE:
        return None
    point: np.ndarray = -residual[:-1] / residual[-1]
    return point if (point @ normals - depth).min() >= -TOLERANCE * max(1.0, float(np.linalg.norm(point))) else None


def _triangle(normals: Float[np.ndarray, "r d"]) -> Float[np.ndarray, "q r"]:
    """The normals as columns in a basis of their span: the distances stay, the dimension shrinks."""
    return np.asarray(np.linalg.qr(normals.T, mode="r"))


def _triangle_with_basis(
    normals: Float[np.ndarray, "r d"],
) -> tuple[Float[np.ndarray, "q r"], Float[np.ndarray, "d q"]]:
    basis, triangle = np.linalg.qr(normals.T)
    return triangle, basis
