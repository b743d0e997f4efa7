"""The classes that are examined, and the audit samples they are examined on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from salve_audit.interventions.affine import AffineHead
from salve_audit.interventions.samples import AuditSamples, sort_samples
from salve_audit.results import ClassReliance

MAX_CLASSES = 50  # examined, the most fragile ones
MAX_WORK = 2e10  # multiply-adds of one head on all samples; beyond it the classes not examined are thinned out
FEW = 4  # samples of a class that is not examined, where they are thinned out


@dataclass(frozen=True)
class Population:
    """The head, samples and classes that are examined.

    Attributes:
        head: the original head.
        samples: audit samples, sorted by class: all of them, or all of the examined classes and `FEW` of every other.
        classes: examined outputs, the most fragile first.
        n_left_out: classes with audit samples that are not examined.
    """

    head: AffineHead
    samples: AuditSamples
    classes: tuple[int, ...]
    n_left_out: int


def choose_population(
    acts: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    head: AffineHead,
    records: Sequence[ClassReliance],
    rng: np.random.Generator,
) -> Population:
    """The `MAX_CLASSES` classes with the smallest flip medians that are ever right, and the samples to measure on."""
    usable = sorted((record for record in records if record.n_correct), key=fragility)
    classes = tuple(record.index for record in usable[:MAX_CLASSES])
    work = float(acts.shape[0]) * acts.shape[1] * len(head.bias)
    if work > MAX_WORK:
        rows = _thinned(labels, classes, rng)
        acts, labels = acts[rows], labels[rows]
    samples = sort_samples(np.asarray(acts), labels, head)
    return Population(head, samples, classes, len(usable) - len(classes))


def fragility(record: ClassReliance) -> tuple[float, int]:
    """Sorts classes by rising flip median, those that never flip last."""
    median = record.alpha_hat.flip.median
    return (math.inf if median is None else median, record.index)


def _thinned(
    labels: Int[np.ndarray, " n"], classes: tuple[int, ...], rng: np.random.Generator
) -> Int[np.ndarray, " rows"]:
    chosen = []
    for index in np.unique(labels).tolist():
        rows = np.flatnonzero(labels == index)
        chosen.append(rows if index in classes else draw_rows(rows, FEW, rng))
    return np.concatenate(chosen)


def draw_rows(rows: Int[np.ndarray, " all"], n: int, rng: np.random.Generator) -> Int[np.ndarray, " some"]:
    """At most `n` of the rows without replacement, ascending."""
    return np.sort(rng.choice(rows, size=n, replace=False)) if len(rows) > n else rows
