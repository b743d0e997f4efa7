"""On which strengths a sample is recognised where every logit is linear in the strength: an open interval each.

Enhancement ``W diag(1 + α̂ c / max c)`` is linear at every strength, suppression up to α̂ = 1 (a negative strength of the
same line), so that one matrix product gives the accuracies at all strengths, without a grid.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from salve_audit.interventions.samples import AuditSamples

BLOCK_VALUES = 1 << 21  # logits held at a time


def relative_coupling(direction: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
    """c / max c, (d,) float64; zeros without coupling."""
    coupling = np.abs(np.asarray(direction, dtype=np.float64))
    top = coupling.max(initial=0.0)
    return coupling / top if top > 0 else np.zeros_like(coupling)


def recognised_windows(
    samples: AuditSamples, growth: Float[np.ndarray, "k d"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
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
        root = np.divide(-margin, slope, out=np.zeros_like(margin), where=slope != 0)
        hopeless = (slope == 0) & (margin <= 0)
        low[rows] = np.where(slope > 0, root, np.where(hopeless, np.inf, -np.inf)).max(axis=0)
        high[rows] = np.where(slope < 0, root, np.inf).min(axis=0)
    return low, high


def recognised_at(
    windows: tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]], strengths: Float[np.ndarray, " s"]
) -> Bool[np.ndarray, "s n"]:
    """Which samples are recognised at each strength."""
    low, high = windows
    return (low < strengths[:, None]) & (strengths[:, None] < high)
