"""Row scaling: turn the class's own row down. The trivial edit that any other must beat to be worth its cost.

``W'_k(t) = (1 − t) W_k``, ``b'_k(t) = (1 − t) b_k``; all other rows stay. At t = 1 the class's logit is always 0, which
suppresses it only where some other logit is positive; beyond it the row is turned around.

Source: docs/method.md §5.
"""

from __future__ import annotations

import numpy as np

from salve_audit.interventions.affine import Intervention, RankOneEdit, rank_one_intervention
from salve_audit.interventions.context import EditContext
from salve_audit.interventions.registry import YARDSTICK


def scale_row(context: EditContext) -> Intervention:
    """The class's row and bias times (1 − t)."""
    head, index = context.head, context.class_index
    minus_class = np.zeros_like(head.bias)
    minus_class[index] = -1.0
    edit = RankOneEdit(left=minus_class, right=head.weight[index].copy(), bias=minus_class * head.bias[index])
    return rank_one_intervention(YARDSTICK.key, head, edit)
