"""Which factors are worth more than the first few images, by class: judged by margins, of which a few images say much.

Stopping early for want of an effect makes no false finding likelier: what goes on is judged by all its images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Bool, Float, Int

from salve_audit.activations.spread import spread_rows

SCREENED = 4  # images of each class that every factor is removed from
LEAST_CORRECT = 3  # of these: without any factors could not be told apart
LEAST_CONTROL = 24  # images of other classes, where there are as many
MOST_REMOVED, MOST_INSERTED = 3, 2  # factors of a class that go on
LEAST_SCORE = 1.5  # standard errors of lost margin beyond the other classes'
INSERTED = 24  # images of other classes that a factor is inserted into, at most
SCREENED_INSERTIONS = 8  # of these
LEAST_EXCESS = 0.15  # of images that become the class: below it no more are spent
INSERTED_FOR_ALL = 72  # images, where inserting a factor is the same change for every class: more are worth it
LEAST_EXCESS_FOR_ALL = 0.08


def choose_screened(labels: Int[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]) -> Int[np.ndarray, " s"]:
    """The first few images of every class, spread over it, and more where few of these are correct."""
    present = np.unique(labels)
    size = max(SCREENED, math.ceil(LEAST_CONTROL / max(1, len(present) - 1)))
    chosen = []
    for label in present:
        rows = spread_rows(np.flatnonzero(labels == label), size)
        others = np.setdiff1d(np.flatnonzero((labels == label) & correct), rows)
        lacking = max(0, LEAST_CORRECT - int(correct[rows].sum()))
        chosen.append(np.sort(np.concatenate([rows, spread_rows(others, lacking)])) if lacking else rows)
    return np.concatenate(chosen)


def choose_removed(
    lost: Mapping[str, Float[np.ndarray, " s"]],
    labels: Int[np.ndarray, " s"],
    correct: Bool[np.ndarray, " s"],
) -> dict[str, list[int]]:
    """Choose the classes that each factor is removed from further.

    Args:
        lost: by factor, the margin that each of the first few images loses.
        labels, correct: of the same images.
    """
    chosen: dict[str, list[int]] = {name: [] for name in lost}
    for label in np.unique(labels).tolist():
        own, others = (labels == label) & correct, (labels != label) & correct
        scores = {name: _score(values[own], values[others]) for name, values in lost.items()}
        best = sorted(scores, key=lambda name: -scores[name])[:MOST_REMOVED]
        for name in best:
            if scores[name] >= LEAST_SCORE:
                chosen[name].append(label)
    return chosen


def _score(own: Float[np.ndarray, " a"], others: Float[np.ndarray, " b"]) -> float:
    """Mean of the own over that of the others, in standard errors; -inf with too few."""
    if len(own) < 2:
        return -math.inf
    if len(others) < 2:
        return float(own.mean() / (own.std() / math.sqrt(len(own)) + 1e-6))
    error = math.sqrt(own.var(ddof=1) / len(own) + others.var(ddof=1) / len(others))
    return float((own.mean() - others.mean()) / (error + 1e-6))


def choose_recipients(labels: Int[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Choose correct images, as many of each class, so that about `INSERTED_FOR_ALL` are of other classes than any."""
    present = np.unique(labels)
    if len(present) < 2:
        return np.empty(0, int)
    each = math.ceil(INSERTED_FOR_ALL / (len(present) - 1))
    rows = np.concatenate([spread_rows(np.flatnonzero((labels == label) & correct), each) for label in present])
    return np.sort(spread_rows(rows, _of_all(INSERTED_FOR_ALL, len(present))))


def choose_few(labels: Int[np.ndarray, " m"]) -> Int[np.ndarray, " s"]:
    """Choose places among images to insert into, so that about `INSERTED` are of other classes than any."""
    return spread_rows(np.arange(len(labels)), _of_all(INSERTED, len(np.unique(labels))))


def _of_all(n_others: int, n_classes: int) -> int:
    """Images of all classes alike of which so many are of others than any."""
    return math.ceil(n_others * n_classes / max(1, n_classes - 1))


def choose_inserted(pulled: Mapping[str, float]) -> list[str]:
    """Choose the factors of a class that are inserted further, by the share of the first few that became the class."""
    best = sorted(pulled, key=lambda name: -pulled[name])[:MOST_INSERTED]
    return [name for name in best if pulled[name] >= LEAST_EXCESS]


def split(rows: Int[np.ndarray, " n"], most: int) -> Iterator[Int[np.ndarray, " m"]]:
    """Yield rows in parts of at most so many."""
    for start in range(0, len(rows), most):
        yield rows[start : start + most]
