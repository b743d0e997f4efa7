"""Methods over all classes: means with intervals, and paired differences to row scaling.

Draw i of the bootstrap weighs the audit samples in the same way for every class, method and target, so that the mean
over classes of draw i is one replicate of that mean, and the difference of two methods in draw i one of the
difference: most of the noise, which samples were drawn, cancels in it.

The strengths are not matched again in each draw: the intervals say how precisely the cost of these edits is known, not
how much the edits themselves would differ on other samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from salve_audit.interventions.bootstrap import percentile_interval
from salve_audit.results import InterventionResult, MethodSummary

YARDSTICK = "row-scaling"  # the trivial edit that any other must beat


@dataclass(frozen=True)
class ClassDraws:
    """The results of one class.

    Attributes:
        results: one per method and target.
        draws: (n_draws, results), the others' accuracy of every result in every draw of the shared bootstrap.
    """

    results: tuple[InterventionResult, ...]
    draws: Float[np.ndarray, "n_draws results"]


class MethodTally:
    """One method at one target, summed up over the classes."""

    def __init__(self, method: str, target: float, n_draws: int) -> None:
        self.method, self.target = method, target
        self.results: list[InterventionResult] = []
        self.differences: list[float] = []
        self.drawn = np.zeros(n_draws)
        self.drawn_differences = np.zeros(n_draws)

    def add(self, result: InterventionResult, drawn: Float[np.ndarray, " n_draws"]) -> None:
        """Counts one class."""
        self.results.append(result)
        self.drawn += drawn

    def add_pair(self, difference: float, drawn: Float[np.ndarray, " n_draws"]) -> None:
        """Counts the difference to row scaling in one class in which both reach the target."""
        self.differences.append(difference)
        self.drawn_differences += drawn

    def summarise(self) -> MethodSummary:
        """Means over the classes counted so far, of which there is at least one."""
        n, n_common = len(self.results), len(self.differences)
        low, high = percentile_interval(self.drawn / n).tolist()
        paired = percentile_interval(self.drawn_differences / n_common).tolist() if n_common else (None, None)
        return MethodSummary(
            method=self.method,
            target_accuracy=self.target,
            n_classes=n,
            n_reached=sum(result.reached for result in self.results),
            others_accuracy=float(np.mean([result.others_accuracy for result in self.results])),
            low=low,
            high=high,
            area=float(np.mean([result.area for result in self.results])),
            n_common=n_common,
            difference=float(np.mean(self.differences)) if n_common else None,
            difference_low=paired[0],
            difference_high=paired[1],
        )


def summarise_methods(classes: Sequence[ClassDraws]) -> tuple[MethodSummary, ...]:
    """One summary per method and target, over all classes compared.

    Where a method does not reach the target in a class, its best strength counts in the mean, but not in the paired
    difference: that is over the classes in which it and row scaling both reach the target, None without any (or
    where row scaling was not compared).
    """
    tallies: dict[tuple[str, float], MethodTally] = {}
    for one in classes:
        yardsticks = {
            result.target_accuracy: (result.others_accuracy, drawn)
            for result, drawn in zip(one.results, one.draws.T, strict=True)
            if result.method == YARDSTICK and result.reached
        }
        for result, drawn in zip(one.results, one.draws.T, strict=True):
            key = (result.method, result.target_accuracy)
            tally = tallies.setdefault(key, MethodTally(*key, n_draws=len(one.draws)))
            tally.add(result, drawn)
            if result.reached and result.target_accuracy in yardsticks:
                others, drawn_others = yardsticks[result.target_accuracy]
                tally.add_pair(result.others_accuracy - others, drawn - drawn_others)
    return tuple(tally.summarise() for tally in tallies.values())
