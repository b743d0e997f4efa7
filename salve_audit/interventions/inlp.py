"""INLP: project out, one after another, the directions along which a linear classifier tells the class from the rest.

Each classifier is the ridge regression of the class-against-rest indicator, fitted to four fifths of the fit split
after the directions found before are removed; its normal is the next direction. A direction is kept as long as the
classifier is better than chance on the last fifth (`MAX_DIRECTIONS` at most; the first always). With B the orthonormal
directions found and ``P = I − B Bᵀ``: ``W'(t) = W (I − t (I − P)) = W − t W B Bᵀ``, the bias stays.

Ridge regression has the direction of the linear discriminant, and a closed form: with S the shrunk covariance and Δ the
difference of the means, the classifier that is orthogonal to B minimises ``½ wᵀS w − wᵀΔ`` under ``Bᵀw = 0``, so that
one factorisation of S serves all classes and all directions.

Source: arXiv 2004.07667, which uses any linear classifier; docs/method.md §5.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from salve_audit.interventions.affine import Intervention, LinearEdit, linear_intervention
from salve_audit.interventions.context import EditContext
from salve_audit.interventions.holdout import HeldOut
from salve_audit.interventions.registry import INLP
from salve_audit.linear_algebra import solve_symmetric

MAX_DIRECTIONS = 8
CHANCE = 0.5  # balanced accuracy
SIGMAS = 2.0  # a classifier within so many standard errors of chance has found nothing


def project_out(context: EditContext) -> Intervention:
    """The projection onto what is left of the activations; its left factor is W B, so r is the number of directions."""
    basis = find_directions(context.fit.held_out, context.class_index)
    edit = LinearEdit(left=-(context.head.weight @ basis), right=basis.T, bias=np.zeros_like(context.head.bias))
    return linear_intervention(INLP.key, context.head, edit)


def find_directions(parts: HeldOut, class_index: int) -> Float[np.ndarray, "d r"]:
    """B, orthonormal columns, at least one; a column of zeros where the class cannot be distinguished at all."""
    own, rest = parts.means[class_index], parts.rest_means[class_index]
    difference = own - rest
    if not np.isfinite(difference).all() or not difference.any():
        return np.zeros((len(difference), 1))
    free = parts.solve(difference[:, None])[:, 0]  # S⁻¹Δ
    basis, solved = np.zeros((len(free), 0)), np.zeros((len(free), 0))  # B and S⁻¹B
    while basis.shape[1] < MAX_DIRECTIONS:
        normal = free - solved @ solve_symmetric(basis.T @ solved, basis.T @ free) if basis.size else free
        normal = normal - basis @ (basis.T @ normal)  # by rounding alone is it not orthogonal yet
        length = float(np.linalg.norm(normal))
        if length <= 1e-12 * float(np.linalg.norm(free)):
            break
        normal /= length
        if basis.size and not _distinguishes(parts, class_index, normal, float(normal @ (own + rest)) / 2):
            break
        basis = np.column_stack([basis, normal])
        solved = np.column_stack([solved, parts.solve(normal[:, None])])
    return basis


def _distinguishes(parts: HeldOut, class_index: int, normal: Float[np.ndarray, " d"], threshold: float) -> bool:
    """True if the balanced accuracy on the held-out part is above chance by more than `SIGMAS` standard errors."""
    above = parts.acts @ normal > threshold
    own = parts.labels == class_index
    n_own, n_rest = int(own.sum()), int((~own).sum())
    if not n_own or not n_rest:
        return False
    balanced = (float(above[own].mean()) + 1.0 - float(above[~own].mean())) / 2
    error = 0.5 * np.sqrt(0.25 / n_own + 0.25 / n_rest)
    return bool(balanced > CHANCE + SIGMAS * error)
