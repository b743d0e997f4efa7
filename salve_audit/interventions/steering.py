"""Activation steering: push every activation against the class's feature before the head sees it.

``a' = a + β v`` with ``v = γ D_l``, ``γ = −sign(μ[k, l])``. Since the head is linear this folds exactly into its bias:
``b' = b + β W v``, the weights stay. The strength is β, in units of the latent's code.

Source: SALVE, arXiv 2512.15938, A.8; docs/method.md §5.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from salve_audit.interventions.affine import Intervention, RankOneEdit, rank_one_intervention
from salve_audit.interventions.context import EditContext
from salve_audit.interventions.registry import STEERING


def steering_vector(context: EditContext) -> Float[np.ndarray, " d"]:
    """v = −sign(μ[k, l]) D_l, (d,): away from where the latent takes the class."""
    sign = np.sign(float(context.mean_codes[context.class_index, context.feature]))
    return -sign * context.direction


def steer(context: EditContext) -> Intervention:
    """Steering folded into the bias. Its unit |μ[k, l]| takes the latent's mean contribution away."""
    vector = steering_vector(context)
    edit = RankOneEdit(
        left=np.zeros_like(context.head.bias),
        right=np.zeros_like(vector),
        bias=context.head.weight @ vector,
    )
    unit = abs(float(context.mean_codes[context.class_index, context.feature]))
    return rank_one_intervention(STEERING.key, context.head, edit, unit or 1.0, context.feature)
