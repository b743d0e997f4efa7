"""Auto-training: which sparsity (docs/method.md §1).

The path runs from dense to sparse, each point warm-started from the one before and trained briefly. It grows λ (or
shrinks k) until the rule fails and then halves the step (on the log scale) a few times. The choice is the sparsest
point that satisfies the rule. A `Ladder` says which λ or k come next.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from salve_audit.errors import DataError
from salve_audit.sae.metrics import Quality
from salve_audit.sae.parameters import Parameters

KEPT_ACCURACY = 0.99  # docs/method.md §1.4
START, GROWTH = 0.3, 2.0  # λ·d/m of the first point: above R² 0.98 on the models tried; factor to the next
MAX_GROWTH, MAX_SHRINK, N_REFINE = 12, 4, 2
LEAST_GAIN = 0.005  # of the shortfall, without which still denser points are not tried
NUDGE, MAX_NUDGES = GROWTH**0.25, 4  # after the full training: the distance of points at the end of the search


@dataclass(frozen=True)
class SparsityPoint:
    """One autoencoder, or one seed of several, at one λ or k."""

    sparsity: float
    parameters: Parameters  # seed axis in front
    quality: Quality


Visit = Callable[[float, Parameters | None], SparsityPoint]  # (λ or k, warm start or None) -> trained and measured


@dataclass(frozen=True)
class Ladder:
    """Moves along the sparsity; ``None`` from any of them: there is no such point.

    Attributes:
        start: the first point.
        move: (from, factor above 1 for sparser or below 1 for denser) -> next.
        between: (denser, sparser) -> the point halfway.
    """

    start: float
    move: Callable[[float, float], float | None]
    between: Callable[[float, float], float | None]


def penalty_ladder(n_latents: int, d: int) -> Ladder:
    """λ: any positive number, sparser upwards."""
    return Ladder(START * n_latents / d, lambda x, factor: x * factor, lambda x, y: math.sqrt(x * y))


def count_ladder(n_latents: int) -> Ladder:
    """k: whole numbers from 1 to m, sparser downwards."""

    def move(k: float, factor: float) -> float | None:
        moved = min(math.ceil(k / factor), k - 1) if factor > 1 else max(math.floor(k / factor), k + 1)
        return float(min(moved, n_latents)) if moved >= 1 and k != min(moved, n_latents) else None

    def between(denser: float, sparser: float) -> float | None:
        middle = round(math.sqrt(denser * sparser))
        return float(middle) if sparser < middle < denser else None

    return Ladder(float(max(1, n_latents // 4)), move, between)


def satisfies(quality: Quality) -> bool:
    """True if at least 99 % of the accuracy are kept, and R² reaches its goal."""
    return quality.accuracy_kept >= KEPT_ACCURACY and quality.r2 >= quality.least_r2


def shortfall(quality: Quality) -> float:
    """Distance by which the rule is missed; 0 where it is satisfied."""
    return max(0.0, KEPT_ACCURACY - quality.accuracy_kept) + max(0.0, quality.least_r2 - quality.r2)


def _always() -> bool:
    return True


def search_path(visit: Visit, ladder: Ladder, may: Callable[[], bool] = _always) -> list[SparsityPoint]:
    """The visited points, from dense to sparse; the first in any case, others while there `may` be more."""
    path = [visit(ladder.start, None)]
    if satisfies(path[0].quality):
        while satisfies(path[-1].quality) and len(path) <= MAX_GROWTH and may():
            sparser = ladder.move(path[-1].sparsity, GROWTH)
            if sparser is None:
                break
            path.append(visit(sparser, path[-1].parameters))
    else:
        while not satisfies(path[0].quality) and len(path) <= MAX_SHRINK and may():
            denser = ladder.move(path[0].sparsity, GROWTH**-2)
            if denser is None:
                break
            path.insert(0, visit(denser, None))  # latents that died do not come back
            if shortfall(path[0].quality) > shortfall(path[1].quality) - LEAST_GAIN:
                break
    for _ in range(N_REFINE):
        if may():
            _refine(path, visit, ladder)
    return path


def _refine(path: list[SparsityPoint], visit: Visit, ladder: Ladder) -> None:
    """Adds the point halfway (on the log scale) between the last that satisfies the rule and the next."""
    good = [i for i, point in enumerate(path) if satisfies(point.quality)]
    if good and good[-1] + 1 < len(path):
        low, high = path[good[-1]], path[good[-1] + 1]
        middle = ladder.between(low.sparsity, high.sparsity)
        if middle is not None:
            path.insert(good[-1] + 1, visit(middle, low.parameters))


def settle(
    start: SparsityPoint,
    visit: Visit,
    ladder: Ladder,
    may: Callable[[], bool] = _always,
    *,
    anew: bool = False,
    most: int = MAX_NUDGES,
) -> list[SparsityPoint]:
    """`start`, trained in full, and its neighbours: the search trains briefly and so misjudges the best λ by a little.

    It goes on to sparser points while the rule holds; or to denser ones until it does, in strides
    that double, so that the rule is only missed where points seven times as far do not meet it either.

    Args:
        start: trained in full.
        visit: trains briefly from a warm start, in full without one.
        ladder: the next points.
        may: whether there is time for another.
        most: points to try at most.
        anew: denser points are trained from scratch, because latents that died do not come back.
    """
    visited = [start]
    raising = satisfies(start.quality)
    for _ in range(most):
        if not may():
            break
        last = visited[-1]
        following = ladder.move(last.sparsity, NUDGE if raising else NUDGE ** -(2 ** (len(visited) - 1)))
        if following is None:
            break
        visited.append(visit(following, None if anew and not raising else last.parameters))
        if satisfies(visited[-1].quality) != raising:
            break
    return visited


def choose(path: list[SparsityPoint]) -> SparsityPoint:
    """The sparsest point (smallest L0, then largest λ) that satisfies the rule, else the one that misses it least."""
    good = [point for point in path if satisfies(point.quality)]
    if good:
        return min(good, key=lambda point: (point.quality.l0, -point.sparsity))
    return min(path, key=lambda point: shortfall(point.quality))


def split_validation(
    labels: Int[np.ndarray, " n"], share: float, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " t"], Int[np.ndarray, " v"]]:
    """(training rows, validation rows), ascending: `share` of every class is held out, at least one of two.

    Raises:
        DataError: no class has two samples.
    """
    held = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        n_held = min(len(rows) - 1, max(1, round(share * len(rows))))
        held.append(rng.permutation(rows)[:n_held])
    validation = np.sort(np.concatenate(held))
    if not len(validation):
        raise DataError("activations", f"{len(labels)} samples, at most one of each class: none can be held out")
    return np.setdiff1d(np.arange(len(labels)), validation), validation
