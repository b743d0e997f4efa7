"""Differences of two audits of the same class with 95 % intervals: paired over images, or of independent ones."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float

from salve_audit.report.changes import Difference

DRAWS = 1000
SEED = 0  # of the bootstrap: the same audits give the same intervals
_Z = 1.959963984540054
Estimate = tuple[float | None, float | None, float | None]  # value, low, high


def independent_difference(old: Estimate, new: Estimate) -> Difference:
    """The difference of two independent estimates, put together from their intervals.

    Source: Newcombe, Statistics in Medicine 17, 1998, method 10; Zou and Donner, ibid. 27, 2008, for other estimates.
    """
    (a, a_low, a_high), (b, b_low, b_high) = old, new
    if a is None or b is None:
        return Difference(a, b, None, None, None, False)
    value = b - a
    low = None if b_low is None or a_high is None else value - math.hypot(b - b_low, a_high - a)
    high = None if b_high is None or a_low is None else value + math.hypot(b_high - b, a - a_low)
    return Difference(a, b, value, low, high, False)


def paired_accuracy(old: Bool[np.ndarray, " n"], new: Bool[np.ndarray, " n"]) -> Difference:
    """The difference of two accuracies on the same images.

    Source of the interval: Agresti and Min, Statistics in Medicine 24, 2005 (half an image is added to each cell).
    """
    n = len(old)
    gained, lost = int((new & ~old).sum()), int((old & ~new).sum())
    total, up, down = n + 2, gained + 0.5, lost + 0.5
    middle = (up - down) / total
    half = _Z * math.sqrt(max(0.0, (up + down) / total - middle**2) / total)
    value = (gained - lost) / n
    low, high = max(-1.0, middle - half), min(1.0, middle + half)
    return Difference(float(old.mean()), float(new.mean()), value, min(low, value), max(high, value), True)


def paired_median(old: Float[np.ndarray, " n"], new: Float[np.ndarray, " n"]) -> Difference:
    """The difference of two flip medians on the same images, by a bootstrap over images.

    nan: the image is not correct under that model; inf: it never flips, which leaves a median open.
    """
    values = _median(old[None])[0], _median(new[None])[0]
    first, second = (None if not math.isfinite(v) else float(v) for v in values)
    if first is None or second is None:
        return Difference(first, second, None, None, None, True)
    rng = np.random.default_rng(SEED)
    picks = rng.integers(0, len(old), (DRAWS, len(old)))
    with np.errstate(invalid="ignore"):
        draws = _median(new[picks]) - _median(old[picks])
    if not np.isfinite(draws).all():
        return Difference(first, second, second - first, None, None, True)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Difference(first, second, second - first, float(low), float(high), True)


def _median(rows: Float[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
    """The Kaplan-Meier median of each row: the smallest value by which half of those that count have flipped."""
    ordered = np.sort(rows, axis=1)  # nan last
    counted = np.isfinite(rows).sum(1) + np.isinf(rows).sum(1)
    place = np.maximum(np.ceil(counted / 2).astype(int) - 1, 0)
    medians = ordered[np.arange(len(rows)), place]
    return np.where(counted > 0, medians, np.nan)
