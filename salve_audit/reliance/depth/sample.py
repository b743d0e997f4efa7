"""Which classes are examined on which pictures, so that the search is over in about a minute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from salve_audit.activations.spread import spread_rows

MOST_PER_CLASS = 100  # pictures
LEAST_PER_CLASS = 30  # below it a class is thin: rather fewer classes
LEAST_CLASSES = 3
PASSES = 31.0  # of one picture, about: 24 for its evidence, the rest are controls
WORK = 6e12  # multiply-adds; a minute on two cores


@dataclass(frozen=True)
class Sample:
    """Rows of the audit split, by class, and how many classes are left out."""

    rows: Int[np.ndarray, " n"]
    n_per_class: int
    n_classes_left_out: int


def choose_sample(
    labels: Int[np.ndarray, " n"], fragility: Float[np.ndarray, " k"], work: float, *, needed: bool
) -> Sample | None:
    """Pictures spread evenly over each class, of the most fragile classes where all would be too many.

    Args:
        labels: of the audit split.
        fragility: the smaller, the sooner a class is examined; nan: last.
        work: multiply-adds of one forward pass of one picture, as a share of those allowed.
        needed: a limit asks for the numbers, so cost is no reason to leave anything out.

    Returns:
        None where not even the fewest pictures of the fewest classes are affordable.
    """
    present = np.unique(labels)
    order = present[np.argsort(np.where(np.isnan(fragility), np.inf, fragility)[present], kind="stable")]
    affordable = int(1.0 / max(PASSES * work, 1e-12))  # pictures
    there = np.array([np.count_nonzero(labels == label) for label in order])
    sizes = range(MOST_PER_CLASS, LEAST_PER_CLASS - 1, -1)  # classes with fewer pictures leave room for the others
    per_class = next((size for size in sizes if np.minimum(there, size).sum() <= affordable), 0)
    n_classes = len(order)
    if not per_class:
        per_class = LEAST_PER_CLASS
        if not needed:
            n_classes = int((np.minimum(there, per_class).cumsum() <= affordable).sum())
    if n_classes < min(LEAST_CLASSES, len(order)):
        return None
    chosen = np.sort(order[:n_classes])
    rows = [spread_rows(np.flatnonzero(labels == label), per_class) for label in chosen]
    return Sample(np.concatenate(rows), per_class, len(order) - len(chosen))
