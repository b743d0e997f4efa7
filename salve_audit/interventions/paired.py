"""Two methods over the classes that both bring to the target: the mean difference, its interval, and a test.

The test is the bootstrap's own: of the draws of the mean difference, the share on the far side of 0, twice the smaller
one, as in a percentile interval. It is over images (and seeds or keys), which the classes' differences share: nearly
the same images of other classes stand behind all of them, so that a permutation over classes, which takes the
differences for independent, would find too much. It speaks of these classes, not of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from salve_audit.interventions.bootstrap import hull_interval
from salve_audit.results import InterventionResult


@dataclass(frozen=True)
class MethodCell:
    """One method at one target in one class, with the draws of the others' accuracy.

    Attributes:
        result: as measured.
        drawn: (n_draws,) over images.
        mixed: (n_draws,) over images and, where the method has a free choice (seed, key), over that.
        counted: (n_draws,) True where the choice drawn reaches the target.
    """

    result: InterventionResult
    drawn: Float[np.ndarray, " n_draws"]
    mixed: Float[np.ndarray, " n_draws"]
    counted: Bool[np.ndarray, " n_draws"]


@dataclass(frozen=True)
class Paired:
    """The mean difference over the common classes; all but `n_common` None without any."""

    n_common: int = 0
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def compare_cells(own: Mapping[str, MethodCell], reference: Mapping[str, MethodCell]) -> Paired:
    """Own less reference over the classes (keys) in which both reach the target."""
    common = [name for name, cell in own.items() if cell.result.reached and _reaches(reference.get(name))]
    if not common:
        return Paired()
    pairs = [(own[name], reference[name]) for name in common]
    mean = float(np.mean([cell.result.others_accuracy - other.result.others_accuracy for cell, other in pairs]))
    drawn = np.mean([cell.drawn - other.drawn for cell, other in pairs], axis=0)
    mixed = _mean_counted(
        [cell.mixed - other.mixed for cell, other in pairs], [cell.counted & other.counted for cell, other in pairs]
    )
    low, high = hull_interval(drawn, mixed)
    return Paired(len(common), mean, low, high, max(two_sided(drawn), two_sided(mixed)))


def two_sided(draws: Float[np.ndarray, " n_draws"]) -> float:
    """Bootstrap p-value of a difference of 0, never 0 itself; 1 without draws."""
    below, above = np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0)
    return min(1.0, 2.0 * (1 + min(below, above)) / (1 + len(draws)))


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: of a family of tests, which keeps the chance of any false finding."""
    order = np.argsort(p_values, kind="stable")
    adjusted, running = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


def _reaches(cell: MethodCell | None) -> bool:
    return cell is not None and cell.result.reached


def _mean_counted(
    draws: Sequence[Float[np.ndarray, " n_draws"]], counted: Sequence[Bool[np.ndarray, " n_draws"]]
) -> Float[np.ndarray, " some"]:
    """Mean over the classes counted in each draw, of the draws in which there are any."""
    is_counted = np.asarray(counted)
    n = is_counted.sum(axis=0)
    sums = np.where(is_counted, np.asarray(draws), 0.0).sum(axis=0)
    return sums[n > 0] / n[n > 0]
