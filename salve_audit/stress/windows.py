"""On which strengths a sample is recognised where every logit is linear in the strength: an open interval each.

Enhancement ``W diag(1 + α̂ c / max c)`` is linear at every strength, suppression up to α̂ = 1 (a negative strength of the
same line), so that one matrix product gives the accuracies at all strengths, without a grid.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from salve_audit.interventions.samples import AuditSamples
from salve_audit.reliance.crossings import Windows, bound_windows

BLOCK_VALUES = 1 << 21  # logits held at a time


def recognised_windows(samples: AuditSamples, growth: Float[np.ndarray, "k d"]) -> Windows:
    """Bounds of the open interval of t on which each sample's label wins under ``W + t growth``; empty: low >= high."""
    n_classes, n = samples.logits.shape
    low, high = np.empty(n), np.empty(n)
    step = max(1, BLOCK_VALUES // n_classes)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        labels, at = samples.labels[rows], np.arange(rows.stop - rows.start)
        base, slope = samples.logits[:, rows], growth @ samples.acts[rows].T
        margin, slope = base[labels, at] - base, slope[labels, at] - slope  # (k, rows)
        margin[labels, at] = 1.0  # its own label is no rival
        low[rows], high[rows] = bound_windows(margin, slope)
    return low, high
