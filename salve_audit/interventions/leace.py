"""LEACE: the smallest affine change of the activations after which no linear predictor can tell the class.

For activations x with mean μ, covariance Σ and cross-covariance ``s = Cov(x, z)`` with the class-against-rest
indicator z, the least-squares optimal eraser is ``r(x) = x − P (x − μ)`` with ``P = Σ^½ π Σ^{-½}`` and π the orthogonal
projection onto ``Σ^{-½} s``. One indicator makes π of rank one, so that ``P = s sᵀΣ⁺ / (sᵀΣ⁺s)``. With ``A = I − P``:
``W' = W A``, ``b' = b + W (I − A) μ``. The strength t interpolates between the original and the erased head,
and beyond t = 1 extrapolates: the class's trace is reversed.

Source: arXiv 2306.03819, theorem 4.3; docs/method.md §5.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from salve_audit.interventions.affine import Intervention, RankOneEdit, rank_one_intervention
from salve_audit.interventions.context import EditContext, FitStatistics
from salve_audit.interventions.registry import LEACE


def erase(context: EditContext) -> Intervention:
    """The erasure of class against rest, as the fit split shows it."""
    left, right = projection_factors(context.fit, context.class_index)
    shift = context.head.weight @ left  # W s, (k,)
    edit = RankOneEdit(left=-shift, right=right, bias=shift * float(right @ context.fit.mean))
    return rank_one_intervention(LEACE.key, context.head, edit)


def projection_factors(fit: FitStatistics, class_index: int) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """s and Σ⁺s / (sᵀΣ⁺s), each (d,), whose outer product is P; zeros where the class has no linear trace."""
    cross = fit.cross_covariance(class_index)
    whitened = fit.covariance_pinv @ cross
    energy = float(cross @ whitened)
    if energy <= 0:
        return np.zeros_like(cross), np.zeros_like(cross)
    return cross, whitened / energy
