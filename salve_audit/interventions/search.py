"""The smallest strength that brings a class down to an accuracy.

Accuracy is a step function of the strength and need not fall steadily, so the first crossing is bracketed on a grid and
then bisected. A dip narrower than a grid step is not seen.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from salve_audit.interventions.affine import Intervention

EVEN_STEPS = 16  # up to the intervention's unit
STEPS_PER_DECADE = 12  # beyond it
MAX_ROUNDS = 60
SLACK = 1e-12  # accuracies are ratios of counts: 25 / 500 must count as 0.05


def strength_grid(intervention: Intervention) -> Float[np.ndarray, " g"]:
    """Strengths from 0 to the largest: even steps up to the unit, geometric ones beyond."""
    largest = intervention.max_strength
    if not largest > 0:
        return np.zeros(1)
    unit = intervention.unit if 0 < intervention.unit < largest else largest
    even = np.linspace(0.0, unit, EVEN_STEPS + 1)
    n_beyond = int(np.ceil(STEPS_PER_DECADE * np.log10(largest / unit)))
    return np.concatenate([even, np.geomspace(unit, largest, n_beyond + 1)[1:]])


def find_strengths(
    accuracy: Callable[[Float[np.ndarray, " s"]], Float[np.ndarray, " s"]],
    grid: Float[np.ndarray, " g"],
    levels: Float[np.ndarray, " levels"],
    tolerances: Float[np.ndarray, " levels"],
) -> tuple[Float[np.ndarray, " levels"], Bool[np.ndarray, " levels"]]:
    """The smallest strengths at which the accuracy is at most each level, all levels bisected at once.

    Args:
        accuracy: strengths (s,) -> accuracies (s,).
        grid: ascending strengths, the first one 0.
        levels: accuracies to come down to.
        tolerances: relative widths of the brackets at which bisection ends.

    Returns:
        strengths (levels,), above the first crossing that the grid brackets by the tolerance at most, and whether
        the level is reached; where it is not, the smallest strength on the grid with the lowest accuracy.
    """
    on_grid = accuracy(grid)
    below = on_grid[None, :] <= levels[:, None] + SLACK  # (levels, g)
    reached = np.asarray(below.any(axis=1))
    first = below.argmax(axis=1)
    high = np.where(reached, grid[first], grid[on_grid.argmin()])
    low = np.where(reached & (first > 0), grid[np.maximum(first - 1, 0)], high)
    for _ in range(MAX_ROUNDS):
        wide = np.flatnonzero(high - low > tolerances * high)
        if not wide.size:
            break
        middle = (low[wide] + high[wide]) / 2
        down = accuracy(middle) <= levels[wide] + SLACK
        high[wide[down]] = middle[down]
        low[wide[~down]] = middle[~down]
    return high, reached
