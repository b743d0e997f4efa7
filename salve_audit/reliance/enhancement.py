"""Enhancement thresholds: strengths from which other samples are taken for the class (docs/method.md §3.5).

Under ``1 + α c`` every margin is linear in α, so each rival allows an interval of strengths and the threshold is the
lower end of their intersection.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from salve_audit.reliance.crossings import bound_windows
from salve_audit.reliance.margins import relative_coupling
from salve_audit.reliance.scaling import Samples


def enhancement_thresholds(samples: Samples, coupling: Float[np.ndarray, " d"], target: int) -> Float[np.ndarray, " n"]:
    """Smallest α̂ at which the target's logit is the largest; NaN where it is so already, inf: never.

    Args:
        samples: any samples, (n, d).
        coupling: (d,) of the enhanced feature.
        target: class index.
    """
    relative = relative_coupling(coupling)
    acts = np.asarray(samples.acts, dtype=np.float64)
    weight, bias = samples.head.weight.astype(np.float64), samples.head.bias.astype(np.float64)
    start = acts @ weight.T + bias  # (n, k)
    slope = acts @ (weight * relative).T
    margin = np.delete(start[:, [target]] - start, target, axis=1)  # (n, k - 1)
    growth = np.delete(slope[:, [target]] - slope, target, axis=1)
    low, high = bound_windows(margin.T, growth.T)
    low = np.maximum(low, 0.0)
    return np.where((margin > 0).all(axis=1), np.nan, np.where(low < high, low, np.inf))
