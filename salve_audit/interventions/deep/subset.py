"""Choice of the classes and images of deep edits: real passes are expensive, so a part of the audit split must do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from salve_audit.activations.spread import spread_rows

N_CLASSES = 3  # edited, the most fragile ones
MOST_OWN, LEAST_OWN = 60, 20  # images of an edited class
MOST_OTHER, LEAST_OTHER = 300, 100  # images of all classes that are not edited
LEAST_IMAGES = 5  # that a class to edit must have
WORK = 4e11  # multiply-adds that the passes of one deep edit may cost, about ten seconds on two cores
MOST_WORK = 1.5e11  # beyond which an edit is made only where it is asked for, even on the fewest images: some 5 s
PASSES_OWN, PASSES_ALL = 20, 2  # of an edited class's images and of all, per class and deep edit, about


@dataclass(frozen=True)
class Subset:
    """Images by rows of the audit split, sorted by class.

    Attributes:
        classes: outputs to edit, the most fragile first.
        rows: (n,) of the audit split.
        labels: (n,) ascending.
        n_own: most images of an edited class.
    """

    classes: tuple[int, ...]
    rows: Int[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    n_own: int

    def rows_of(self, index: int) -> slice:
        """The images of one class among these."""
        first, last = np.searchsorted(self.labels, [index, index + 1])
        return slice(int(first), int(last))


def choose_classes(labels: Int[np.ndarray, " n"], fragility: Float[np.ndarray, " k"]) -> tuple[int, ...]:
    """The most fragile classes with enough images; of those without a measure (nan) the first."""
    counts = np.bincount(labels, minlength=len(fragility))
    order = np.argsort(np.where(np.isnan(fragility), np.inf, fragility), kind="stable")
    return tuple(int(index) for index in order if counts[index] >= LEAST_IMAGES)[:N_CLASSES]


def choose_subset(labels: Int[np.ndarray, " n"], classes: Sequence[int], work: float) -> Subset:
    """Images evenly spread over the edited classes and, fewer each, over all others.

    Args:
        labels: (n,) of the audit split.
        classes: to edit.
        work: multiply-adds of one run per image; the dearer it is, the fewer images.
    """
    share = min(1.0, WORK / max(_count_passes(len(classes), MOST_OWN, MOST_OTHER) * work, 1.0))
    n_own = max(LEAST_OWN, int(share * MOST_OWN))
    others = [index for index in np.unique(labels).tolist() if index not in classes]
    n_other = max(LEAST_OTHER, int(share * MOST_OTHER))
    taken = dict.fromkeys(classes, n_own) | _spread(others, n_other)
    parts = [spread_rows(np.flatnonzero(labels == index), n) for index, n in sorted(taken.items()) if n]
    rows = np.concatenate(parts)
    return Subset(tuple(classes), rows, labels[rows], n_own)


def is_affordable(n_classes: int, work: float) -> bool:
    """True if an edit can be searched on the fewest images where a run costs so many multiply-adds per image."""
    return _count_passes(n_classes, LEAST_OWN, LEAST_OTHER) * work <= MOST_WORK


def _count_passes(n_classes: int, n_own: int, n_other: int) -> int:
    return n_classes * (PASSES_OWN * n_own + PASSES_ALL * (n_classes * n_own + n_other))


def _spread(classes: Sequence[int], n: int) -> dict[int, int]:
    """At least one image of as many classes as there may be images."""
    if not classes:
        return {}
    chosen = [classes[i] for i in np.unique(np.linspace(0, len(classes) - 1, min(n, len(classes))).astype(int))]
    return {index: max(1, n // len(chosen)) for index in chosen}
