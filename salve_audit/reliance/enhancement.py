"""How far a feature must be enhanced before other samples are taken for the class (METHOD §3).

Under ``1 + α c`` every margin is linear in α, so each rival allows an interval of strengths and the threshold is the
lower end of their intersection.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from salve_audit.reliance.scaling import Samples


def enhancement_thresholds(samples: Samples, coupling: Float[np.ndarray, " d"], target: int) -> Float[np.ndarray, " n"]:
    """Smallest α̂ at which the target's logit is the largest; NaN where it is so already, inf: never.

    Args:
        samples: any samples, (n, d).
        coupling: (d,) of the enhanced feature.
        target: class index.
    """
    top = coupling.max(initial=0.0)
    relative = coupling / top if top > 0 else np.zeros_like(coupling)
    acts = np.asarray(samples.acts, dtype=np.float64)
    weight, bias = samples.head.weight.astype(np.float64), samples.head.bias.astype(np.float64)
    start = acts @ weight.T + bias  # (n, k)
    slope = acts @ (weight * relative).T
    margin = np.delete(start[:, [target]] - start, target, axis=1)
    growth = np.delete(slope[:, [target]] - slope, target, axis=1)
    already = (margin > 0).all(1)
    root = np.divide(-margin, growth, out=np.zeros_like(margin), where=growth != 0)
    low = np.where(margin > 0, 0.0, np.where(growth > 0, root, np.inf)).max(1, initial=0.0)
    high = np.where(growth < 0, np.where(margin > 0, root, -np.inf), np.inf).min(1, initial=np.inf)
    return np.where(already, np.nan, np.where(low < high, low, np.inf))
