"""Enhancement thresholds: strengths from which other samples are taken for the class (docs/method.md §3.5).

Under ``1 + α c`` every margin is linear in α, so each rival allows an interval of strengths and the threshold is the
lower end of their intersection.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from salve_audit.reliance.crossings import bound_windows
from salve_audit.reliance.margins import relative_coupling
from salve_audit.reliance.scaling import Samples


@dataclass(frozen=True)
class Unedited:
    """What the thresholds of every class begin with, in float64.

    Attributes:
        acts: (n, d) of any samples.
        weight: (k, d) of the head.
        logits: (n, k) of these samples by the head as it is.
    """

    acts: Float[np.ndarray, "n d"]
    weight: Float[np.ndarray, "k d"]
    logits: Float[np.ndarray, "n k"]

    @classmethod
    def of(cls, samples: Samples) -> Unedited:
        """The logits of these samples."""
        acts = np.asarray(samples.acts, dtype=np.float64)
        weight = samples.head.weight.astype(np.float64)
        return cls(acts, weight, acts @ weight.T + samples.head.bias)


def enhancement_thresholds(start: Unedited, coupling: Float[np.ndarray, " d"], target: int) -> Float[np.ndarray, " n"]:
    """Smallest α̂ at which the target's logit is the largest; NaN where it is so already, inf: never.

    Args:
        start: the samples' logits without an edit.
        coupling: (d,) of the enhanced feature.
        target: class index.
    """
    slope = start.acts @ (start.weight * relative_coupling(coupling)).T  # (n, k)
    margin, growth = start.logits[:, [target]] - start.logits, slope[:, [target]] - slope
    margin[:, target], growth[:, target] = 1.0, 0.0  # a class is no rival of itself: bounds nothing
    low, high = bound_windows(margin.T, growth.T)
    low = np.maximum(low, 0.0)
    return np.where((margin > 0).all(axis=1), np.nan, np.where(low < high, low, np.inf))
