"""The strength that brings a class down, by runs of the network: accuracy is no simple function of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

GRID = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
SLACK = 1e-9
Accuracy = Callable[[float], float]  # of the class at a strength; one run of the network


def search_strengths(accuracy: Accuracy, targets: Sequence[float], n_halvings: int) -> list[tuple[float, bool]]:
    """Per target a strength at which the accuracy is at most that, and whether there is one.

    The first strength on `GRID` that is enough, and then `n_halvings` bisections of the step before it; the upper end
    is kept, so that the accuracy there is known to be low enough. A dip between points of the grid may be missed.
    Where no strength is enough: the smallest on the grid with the lowest accuracy. 0 where the class is there already.
    """
    known: dict[float, float] = {}

    def at(strength: float) -> float:
        if strength not in known:
            known[strength] = accuracy(strength)
        return known[strength]

    return [_search_one(at, target, n_halvings) for target in targets]


def _search_one(at: Accuracy, target: float, n_halvings: int) -> tuple[float, bool]:
    if at(0.0) <= target + SLACK:
        return 0.0, True
    low = 0.0
    for high in GRID:
        if at(high) <= target + SLACK:
            return _bisect(at, target, (low, high), n_halvings), True
        low = high
    return min(GRID, key=lambda strength: (at(strength), strength)), False


def _bisect(at: Accuracy, target: float, bracket: tuple[float, float], n_halvings: int) -> float:
    low, high = bracket
    for _ in range(n_halvings):
        middle = (low + high) / 2
        if at(middle) <= target + SLACK:
            high = middle
        else:
            low = middle
    return high
