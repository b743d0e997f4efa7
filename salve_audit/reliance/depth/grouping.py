"""Which pieces of evidence are the same kind of thing: concepts of one class, told apart by pictures that have two.

Alike pieces cannot be found by how alike they look: one stripe pattern in two phases is further apart, at any layer,
than two cues that always come together. What does tell is a picture that survived the loss of its first piece: what
it rested on next is something else. Such pictures say which differences matter (the directions of the differences
within a picture) and which pieces must not be grouped. A class without such pictures has one concept.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

LEAST_SHARE = 0.08  # of a class's pictures with as many pieces, for as many concepts
LEAST_PICTURES = 4
N_DIRECTIONS = 6
N_STARTS, N_ROUNDS = 6, 20


@dataclass(frozen=True)
class Grouping:
    """Concepts of one class, the most frequent first.

    Attributes:
        concept: (n, j) concept of each piece; -1: there is no piece.
        centres: (g, d) mean unit trait of each concept.
    """

    concept: Int[np.ndarray, "n j"]
    centres: Float[np.ndarray, "g d"]


def group_pieces(
    traits: Float[np.ndarray, "n j d"], counted: Bool[np.ndarray, "n j"], rng: np.random.Generator
) -> Grouping:
    """Groups the pieces of one class's pictures.

    Args:
        traits: of each piece; NaN where there is none.
        counted: the piece was something that the class could rest on; see `count_pieces`.
        rng: draws the starting points.
    """
    there = np.isfinite(traits).all(2)
    units = np.nan_to_num(traits)
    units = units / np.linalg.norm(units, axis=2, keepdims=True).clip(1e-12)
    n_groups = choose_number(counted & there)
    if n_groups == 1:
        concept = np.where(there, 0, -1)
    else:
        concept = _cluster(units, counted & there, there, n_groups, rng)
    used, counts = np.unique(concept[there], return_counts=True)
    ranks = {int(group): rank for rank, group in enumerate(used[np.argsort(-counts, kind="stable")])}
    concept = np.vectorize(lambda group: ranks.get(int(group), -1), otypes=[np.int64])(concept)
    centres = np.stack([units[concept == rank].mean(0) for rank in range(len(ranks))]) if ranks else units[:0, 0]
    return Grouping(concept, centres)


def count_pieces(
    clean: Float[np.ndarray, " n"], together: Float[np.ndarray, "n j"], least: float = 0.25
) -> Bool[np.ndarray, "n j"]:
    """Pieces that took at least `least` of the margin left before them; the first of a picture always counts."""
    before = np.concatenate([clean[:, None], together[:, :-1]], axis=1)
    with np.errstate(invalid="ignore"):
        counted = before - together >= least * np.abs(before)
    counted[:, 0] = True
    return counted & np.isfinite(together)


def choose_number(counted: Bool[np.ndarray, "n j"]) -> int:
    """The most pieces that enough of the class's pictures have at once."""
    pieces = counted.sum(1)
    needed = max(LEAST_PICTURES, LEAST_SHARE * len(counted))
    return max((j for j in range(2, counted.shape[1] + 1) if (pieces >= j).sum() >= needed), default=1)


def _cluster(
    units: np.ndarray, counted: np.ndarray, there: np.ndarray, n_groups: int, rng: np.random.Generator
) -> Int[np.ndarray, "n j"]:
    """k-means on the pictures with several pieces, never two of one picture in a group; the rest joins the nearest."""
    several = counted.sum(1) >= 2
    directions = _find_directions(units[several], counted[several])
    points = units @ directions  # (n, j, r)
    sets = [points[row][counted[row]] for row in np.flatnonzero(several)]
    best = min((_run(sets, n_groups, rng) for _ in range(N_STARTS)), key=lambda one: one[0])
    concept = np.full(there.shape, -1)
    for row in np.flatnonzero(there.any(1)):
        # two pieces of a picture that did not both count may be parts of one thing: no rule for them
        mine = points[row][there[row]]
        pick = _assign(mine, best[1]) if counted[row].sum() == len(mine) else _distances(mine, best[1]).argmin(1)
        concept[row, there[row]] = pick
    return concept


def _find_directions(units: np.ndarray, counted: np.ndarray) -> Float[np.ndarray, "d r"]:
    """Leading directions of the differences between pieces of the same picture: what pictures share cancels."""
    pairs = itertools.combinations(range(units.shape[1]), 2)
    differences = [(units[:, a] - units[:, b])[counted[:, a] & counted[:, b]] for a, b in pairs]
    _, _, rows = np.linalg.svd(np.concatenate(differences), full_matrices=False)
    return np.asarray(rows[:N_DIRECTIONS].T)


def _run(sets: list[np.ndarray], n_groups: int, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """One start: total squared distance and the centres (g, r)."""
    pool = np.concatenate(sets)
    centres = sets[int(rng.integers(len(sets)))][:n_groups]
    while len(centres) < n_groups:
        far = _distances(pool, centres).min(1) + 1e-12
        centres = np.vstack([centres, pool[rng.choice(len(pool), p=far / far.sum())]])
    for _ in range(N_ROUNDS):
        picks = np.concatenate([_assign(one, centres) for one in sets])
        centres = np.stack(
            [pool[picks == g].mean(0) if (picks == g).any() else pool[rng.integers(len(pool))] for g in range(n_groups)]
        )
    total = sum(float(_distances(one, centres)[np.arange(len(one)), _assign(one, centres)].sum()) for one in sets)
    return total, centres


def _assign(points: np.ndarray, centres: np.ndarray) -> Int[np.ndarray, " j"]:
    """The nearest centres, a different one for each point; pieces beyond their number are left to the nearest."""
    distances = _distances(points, centres)
    if len(points) > len(centres):
        return np.asarray(distances.argmin(1))
    options = list(itertools.permutations(range(len(centres)), len(points)))
    costs = [distances[np.arange(len(points)), list(one)].sum() for one in options]
    return np.array(options[int(np.argmin(costs))])


def _distances(points: np.ndarray, centres: np.ndarray) -> Float[np.ndarray, "j g"]:
    return np.asarray(((points[:, None] - centres) ** 2).sum(2))
