"""Where a class's accuracy comes down to a share, exactly, from the strengths at which its samples change sides."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from salve_audit.reliance.margins import MarginEvents

SLACK = 1e-12  # shares are ratios of counts: 25 / 500 must count as 0.05


def count_wrong(events: MarginEvents) -> tuple[Float[np.ndarray, " e"], Int[np.ndarray, " e"]]:
    """How many samples are wrong after each event.

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
