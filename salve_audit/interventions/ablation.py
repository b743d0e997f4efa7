"""Directional ablation: take the component along the latent's direction out of every activation.

``W'(t) = W (I − t d dᵀ)`` with ``d = D_l / ‖D_l‖``; the bias stays. At t = 1 nothing along d reaches the logits;
beyond it the component is reversed.

Source: directional ablation as in arXiv 2406.11717, folded into the head; docs/method.md §5.
"""

from __future__ import annotations

import numpy as np

from salve_audit.interventions.affine import Intervention, RankOneEdit, rank_one_intervention
from salve_audit.interventions.context import EditContext
from salve_audit.interventions.registry import ABLATION


def ablate(context: EditContext) -> Intervention:
    """The ablation of the context's latent; a zero dictionary row changes nothing."""
    length = float(np.linalg.norm(context.direction))
    unit = context.direction / length if length > 0 else context.direction
    edit = RankOneEdit(left=-(context.head.weight @ unit), right=unit, bias=np.zeros_like(context.head.bias))
    return rank_one_intervention(ABLATION.key, context.head, edit, feature=context.feature)
