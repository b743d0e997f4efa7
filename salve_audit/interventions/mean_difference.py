"""Mean-difference steering: move every activation from the class's mean towards that of the rest.

``a' = a − t (μ_class − μ_rest)``, folded exactly into the bias: ``b' = b − t W (μ_class − μ_rest)``, the weights stay.
At t = 1 the class's activations have the mean of the rest. It needs labels, but no autoencoder.

Source: difference of means as in arXiv 2312.06681 (contrastive activation addition), at the penultimate layer.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from salve_audit.interventions.affine import Intervention, RankOneEdit, rank_one_intervention
from salve_audit.interventions.context import EditContext
from salve_audit.interventions.registry import MEAN_DIFFERENCE


def difference_vector(context: EditContext) -> Float[np.ndarray, " d"]:
    """v = −(μ_class − μ_rest), (d,), what is added to every activation at t = 1."""
    return -context.fit.mean_difference(context.class_index)


def steer_by_means(context: EditContext) -> Intervention:
    """The difference of means folded into the bias."""
    vector = difference_vector(context)
    edit = RankOneEdit(
        left=np.zeros_like(context.head.bias), right=np.zeros_like(vector), bias=context.head.weight @ vector
    )
    return rank_one_intervention(MEAN_DIFFERENCE.key, context.head, edit)
