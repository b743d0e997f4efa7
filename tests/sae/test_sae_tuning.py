"""The choice of the sparsity, on made-up frontiers, and the held-out part."""

from __future__ import annotations

import math

import numpy as np
import pytest

from salve_audit.errors import DataError
from salve_audit.sae.metrics import Quality
from salve_audit.sae.tuning import (
    SparsityPoint,
    choose,
    count_ladder,
    penalty_ladder,
    satisfies,
    search_path,
    settle,
    split_validation,
)

LADDER = penalty_ladder(32, 32)


def quality(r2: float, accuracy: float, l0: float = 10.0) -> Quality:
    return Quality(r2, l0, 0, 0.9, 0.9 * accuracy, accuracy, 0.0, 1.0)


class Frontier:
    """R² falls from 1 to 0 with log λ, crossing 0.9 at `limit`; records which warm start each point had."""

    def __init__(self, limit: float, accuracy: float = 1.0) -> None:
        self.limit, self.accuracy, self.visited = limit, accuracy, []

    def visit(self, sparsity, start):
        self.visited.append((sparsity, start))
        r2 = 0.9 + 0.02 * math.log(self.limit / sparsity)
        return SparsityPoint(sparsity, {"from": sparsity}, quality(r2, self.accuracy, l0=100 / sparsity))


@pytest.mark.parametrize("limit", [0.002, 0.07, 0.5, 3.0, 40.0])
def test_search_comes_close_to_the_sparsest_point_that_satisfies(limit):
    frontier = Frontier(limit)
    path = search_path(frontier.visit, LADDER)
    chosen = choose(path)
    assert satisfies(chosen.quality)
    assert chosen.sparsity <= limit < chosen.sparsity * 2**0.5
    assert [point.sparsity for point in path] == sorted(point.sparsity for point in path)
    assert len(path) <= 12


def test_every_point_but_the_first_starts_from_its_denser_neighbour():
    frontier = Frontier(3.0)
    search_path(frontier.visit, LADDER)
    assert frontier.visited[0][1] is None
    for i, (sparsity, start) in enumerate(frontier.visited[1:], start=1):
        denser = max(other for other, _ in frontier.visited[:i] if other < sparsity)
        assert start["from"] == denser


def test_below_the_first_point_every_point_starts_anew():
    frontier = Frontier(0.01)
    search_path(frontier.visit, LADDER)
    falling = [start for sparsity, start in frontier.visited[:4]]
    assert falling == [None] * len(falling)


def test_where_nothing_satisfies_the_nearest_miss_is_taken():
    path = search_path(Frontier(1.0, accuracy=0.5).visit, LADDER)
    assert len(path) == 2  # the denser one is no better
    chosen = choose(path)
    assert not satisfies(chosen.quality)
    assert chosen.quality.r2 >= 0.9


@pytest.mark.parametrize(("start", "n_visits"), [(1.0, 5), (3.4, 2), (3.6, 2), (4.5, 3), (9.0, 4), (99.0, 5)])
def test_settling_moves_until_the_rule_changes(start, n_visits):
    """3.5 is the limit; a nudge is a factor 2**0.25, four at most, and towards denser points each is twice the last."""
    frontier = Frontier(3.5)
    visited = settle(frontier.visit(start, None), frontier.visit, LADDER)
    assert len(visited) == n_visits
    assert [start["from"] for _, start in frontier.visited[1:]] == [point.sparsity for point in visited[:-1]]
    chosen = choose(visited)
    if start == 99.0:
        assert not satisfies(chosen.quality)
    else:
        assert satisfies(chosen.quality)
        assert start in (1.0, 9.0) or 3.5 / 2**0.5 < chosen.sparsity <= 3.5


def test_choice_is_the_sparsest_of_those_that_satisfy():
    path = [
        SparsityPoint(1.0, {}, quality(0.99, 1.0, l0=50)),
        SparsityPoint(2.0, {}, quality(0.90, 0.99, l0=20)),
        SparsityPoint(4.0, {}, quality(0.92, 0.98, l0=10)),
        SparsityPoint(8.0, {}, quality(0.89, 1.00, l0=5)),
    ]
    assert choose(path).sparsity == 2.0
    assert choose([path[2], path[3]]).sparsity in (4.0, 8.0)


@pytest.mark.parametrize("counts", [(20, 20), (100, 7), (2, 2), (1, 2), (1, 1, 40)])
def test_hold_out_is_stratified_and_a_partition(counts):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    train, held = split_validation(labels, 0.15, np.random.default_rng(1))
    assert sorted([*train, *held]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        n_held = int((labels[held] == label).sum())
        assert n_held == (0 if count == 1 else max(1, round(0.15 * count)))
        assert (labels[train] == label).any()


def test_hold_out_depends_on_the_seed_alone():
    labels = np.arange(90) % 3
    first, second, other = (split_validation(labels, 0.15, np.random.default_rng(seed))[1] for seed in (0, 0, 1))
    assert first.tolist() == second.tolist() != other.tolist()


def test_one_sample_per_class_cannot_be_split():
    with pytest.raises(DataError, match=r"^activations: 5 samples, at most one of each class: none can be held out$"):
        split_validation(np.arange(5), 0.15, np.random.default_rng(0))


class CountedFrontier:
    """R² rises with k, reaching 0.9 at `least`."""

    def __init__(self, least: int) -> None:
        self.least, self.visited = least, []

    def visit(self, sparsity, start):
        self.visited.append(sparsity)
        return SparsityPoint(sparsity, {}, quality(0.9 + 0.001 * (sparsity - self.least), 1.0, l0=sparsity))


@pytest.mark.parametrize("least", [1, 2, 5, 8, 19, 33, 64])
def test_the_smallest_k_is_approached(least):
    frontier = CountedFrontier(least)
    ladder = count_ladder(64)
    path = search_path(frontier.visit, ladder)
    assert [point.sparsity for point in path] == sorted((point.sparsity for point in path), reverse=True)
    assert all(1 <= k <= 64 and k == int(k) for k in frontier.visited)
    assert len(set(frontier.visited)) == len(frontier.visited)
    chosen = choose(path + settle(choose(path), frontier.visit, ladder))
    assert least <= chosen.sparsity <= max(least + 1, 1.2 * least)


def test_k_moves_by_one_at_least_and_stays_within_the_latents():
    ladder = count_ladder(10)
    assert ladder.start == 2
    assert [ladder.move(k, 2.0) for k in (10, 3, 2, 1)] == [5, 2, 1, None]
    assert [ladder.move(k, 1.01) for k in (10, 2, 1)] == [9, 1, None]
    assert [ladder.move(k, 0.25) for k in (1, 3, 10)] == [4, 10, None]
    assert [ladder.move(k, 0.99) for k in (1, 9, 10)] == [2, 10, None]
    assert [ladder.between(*pair) for pair in [(8, 4), (3, 1), (3, 2), (2, 1)]] == [6, 2, None, None]


@pytest.mark.parametrize(("start", "anew"), [(9.0, True), (9.0, False), (1.0, True)])
def test_settling_starts_denser_points_anew_where_latents_do_not_come_back(start, anew):
    frontier = Frontier(3.5)
    settle(frontier.visit(start, None), frontier.visit, LADDER, anew=anew)
    starts = [start for _, start in frontier.visited[1:]]
    assert len(starts) == (4 if start == 1.0 else 3)
    assert all((point is None) == (anew and start == 9.0) for point in starts)
