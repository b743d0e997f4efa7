"""The strength at which suppressing a feature flips one image's prediction, and the class that it flips to."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from salve_audit.explain.findings import Flip
from salve_audit.interventions.affine import AffineHead
from salve_audit.reliance.thresholds import thresholds


def find_flip(
    acts: Float[np.ndarray, " d"],
    head: AffineHead,
    coupling: Float[np.ndarray, " d"],
    index: int,
    classes: tuple[str, ...],
) -> Flip:
    """The exact flip of the predicted class `index` (docs/method.md §3); the best rival at that strength takes over.

    Args:
        acts: (d,) float64.
        head: float64.
        coupling: (d,) ``|D_l|``.
        index: the class with the largest logit.
        classes: names, in output order.
    """
    alpha = float(thresholds(acts[None], head.weight, head.bias, coupling, index).flip[0])
    if not np.isfinite(alpha):  # never, or a tie from the start
        return Flip(None, None)
    logits = head.weight @ (acts * np.maximum(0.0, 1.0 - alpha * coupling)) + head.bias
    logits[index] = -np.inf
    return Flip(alpha * float(coupling.max()), classes[int(logits.argmax())])
