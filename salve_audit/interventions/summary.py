"""Methods over all classes: means with intervals, and paired differences to row scaling and to SALVE.

Draw i of the bootstrap weighs the audit samples in the same way for every class, method and target, so that the mean
over classes of draw i is one replicate of that mean, and the difference of two methods in draw i one of the
difference: most of the noise, which samples were drawn, cancels in it. Methods with a free choice have a second level:
the autoencoder's seed, drawn once for all methods and classes, or ROME's key, drawn anew for every class. The intervals
reach as far as the wider of the two levels.

The strengths are not matched again in each draw: the intervals say how precisely the cost of these edits is known, not
how much the edits themselves would differ on other samples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from salve_audit.interventions.bootstrap import hull_interval
from salve_audit.interventions.paired import MethodCell, adjust_holm, compare_cells
from salve_audit.interventions.registry import SALVE, YARDSTICK
from salve_audit.results import InterventionResult, MethodSummary


@dataclass(frozen=True)
class ClassDraws:
    """The results of one class.

    Attributes:
        results: one per method and target.
        draws: (n_draws, results), the others' accuracy of every result in every draw of the shared bootstrap.
        mixed: (n_draws, results) with the seed or key drawn as well; None: no method has such a choice.
        counted: (n_draws, results) True where the choice drawn reaches the target; None: as the results say.
    """

    results: tuple[InterventionResult, ...]
    draws: Float[np.ndarray, "n_draws results"]
    mixed: Float[np.ndarray, "n_draws results"] | None = None
    counted: Bool[np.ndarray, "n_draws results"] | None = None

    def cells(self) -> list[MethodCell]:
        """One per result."""
        mixed = self.draws if self.mixed is None else self.mixed
        counted = self.counted
        if counted is None:
            counted = np.broadcast_to([result.reached for result in self.results], self.draws.shape)
        columns = zip(self.results, self.draws.T, mixed.T, counted.T, strict=True)
        return [MethodCell(result, drawn, both, reached) for result, drawn, both, reached in columns]


def summarise_methods(classes: Sequence[ClassDraws]) -> tuple[MethodSummary, ...]:
    """One summary per method and target, over all classes compared.

    Where a method does not reach the target in a class, its best strength counts in the mean, but not in the paired
    differences: those are over the classes in which it and row scaling (or SALVE) both reach the target, None without
    any (or where the other was not compared). The tests against SALVE at one target are a family for Holm.
    """
    cells: dict[tuple[str, float], dict[str, MethodCell]] = {}
    for cell in (cell for draws in classes for cell in draws.cells()):
        key = (cell.result.method, cell.result.target_accuracy)
        cells.setdefault(key, {})[cell.result.class_name] = cell
    summaries = [_summarise(own, cells.get((YARDSTICK.key, key[1]), {})) for key, own in cells.items()]
    summaries = [_beside_salve(summary, cells) for summary in summaries]
    return tuple(_with_holm(summary, summaries) for summary in summaries)


def _summarise(own: dict[str, MethodCell], yardstick: dict[str, MethodCell]) -> MethodSummary:
    results = [cell.result for cell in own.values()]
    drawn = np.mean([cell.drawn for cell in own.values()], axis=0)
    mixed = np.mean([cell.mixed for cell in own.values()], axis=0)
    low, high = hull_interval(drawn, mixed)
    paired = compare_cells(own, yardstick)
    return MethodSummary(
        method=results[0].method,
        target_accuracy=results[0].target_accuracy,
        n_classes=len(results),
        n_reached=sum(result.reached for result in results),
        others_accuracy=float(np.mean([result.others_accuracy for result in results])),
        low=low,
        high=high,
        area=float(np.mean([result.area for result in results if result.area is not None])),
        n_common=paired.n_common,
        difference=paired.mean,
        difference_low=paired.low,
        difference_high=paired.high,
    )


def _beside_salve(summary: MethodSummary, cells: dict[tuple[str, float], dict[str, MethodCell]]) -> MethodSummary:
    if summary.method == SALVE.key:
        return summary
    target = summary.target_accuracy
    paired = compare_cells(cells[summary.method, target], cells.get((SALVE.key, target), {}))
    return dataclasses.replace(
        summary,
        n_common_salve=paired.n_common,
        to_salve=paired.mean,
        to_salve_low=paired.low,
        to_salve_high=paired.high,
        p_salve=paired.p,
    )


def _with_holm(summary: MethodSummary, summaries: Sequence[MethodSummary]) -> MethodSummary:
    family = [f for f in summaries if f.target_accuracy == summary.target_accuracy and f.p_salve is not None]
    if summary.p_salve is None:
        return summary
    adjusted = adjust_holm([f.p_salve for f in family if f.p_salve is not None])
    return dataclasses.replace(summary, p_salve_holm=adjusted[family.index(summary)])
