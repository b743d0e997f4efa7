"""At which strengths samples are recognised, exactly, and where a class's accuracy comes down to a share.

Where margins are linear in the strength, each rival leaves one side of one strength, so that a sample is recognised on
an open interval of strengths, its window.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from salve_audit.reliance.margins import MarginEvents

Windows = tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]  # low and high; empty where low >= high

SLACK = 1e-12  # shares are ratios of counts: 25 / 500 must count as 0.05


def count_wrong(events: MarginEvents) -> tuple[Float[np.ndarray, " e"], Int[np.ndarray, " e"]]:
    """Counts the samples that are wrong after each event.

    Returns:
        strengths (e,), ascending from 0, and the number of wrong samples (e,) from there on. At equal strength the
        samples that fall come before those that rise, as a sample that rises is still wrong at the strength itself.
    """
    strength = np.concatenate([events.down, events.up])
    step = np.repeat([1, -1], [len(events.down), len(events.up)])
    order = np.lexsort((-step, strength))
    wrong = len(events.correct) - int(np.count_nonzero(events.correct))
    return np.append(0.0, strength[order]), wrong + np.append(0, np.cumsum(step[order]))


def first_at_most(events: MarginEvents, share: float) -> float:
    """Smallest strength >= 0 at which at most this share of the samples is correct; inf: never; nan: no samples."""
    n = len(events.correct)
    if n == 0:
        return float("nan")
    strength, wrong = count_wrong(events)
    hits = np.flatnonzero(n - wrong <= (share + SLACK) * n)
    return float(strength[hits[0]]) if len(hits) else float("inf")


def first_at_most_half(events: MarginEvents) -> float:
    """Smallest alpha_hat >= 0 at which at most half of the samples are correct; inf: never; nan: no samples."""
    return first_at_most(events, 0.5)


def bound_windows(margin: Float[np.ndarray, "rivals n"], slope: Float[np.ndarray, "rivals n"]) -> Windows:
    """The open interval of strengths t on which ``margin + t slope`` of every rival is above 0.

    Args:
        margin: of the label over each rival at t = 0; a row above 0 with slope 0 bounds nothing.
        slope: its growth per unit of t.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        root = -margin / slope
    low = np.where(slope > 0, root, np.where((slope == 0) & (margin <= 0), np.inf, -np.inf))
    high = np.where(slope < 0, root, np.inf)
    return low.max(axis=0, initial=-np.inf), high.min(axis=0, initial=np.inf)


def inside_windows(windows: Windows, strengths: Float[np.ndarray, " s"]) -> Bool[np.ndarray, "s n"]:
    """(s, n) True where a sample is recognised at a strength; at a window's ends it is not."""
    low, high = windows
    return (low < strengths[:, None]) & (strengths[:, None] < high)
