"""Strengths by runs of a network, images for them, and what an edit does to them, against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from salve_audit.interventions.affine import AffineHead
from salve_audit.interventions.bootstrap import draw_weights
from salve_audit.interventions.deep.effect import measure_effect
from salve_audit.interventions.deep.search import GRID, search_strengths
from salve_audit.interventions.deep.subset import LEAST_OWN, MOST_OWN, choose_classes, choose_subset, is_affordable
from salve_audit.interventions.samples import sort_samples


def test_the_search_ends_just_beyond_the_step() -> None:
    visited: list[float] = []

    def accuracy(strength: float) -> float:
        visited.append(strength)
        return 0.9 if strength < 0.83 else 0.5 if strength < 2.61 else 0.02

    strengths = search_strengths(accuracy, (0.5, 0.05), n_halvings=8)
    for (strength, reached), edge, bracket in zip(strengths, (0.83, 2.61), ((0.75, 1.0), (2.5, 3.0)), strict=True):
        assert reached
        assert edge <= strength <= edge + (bracket[1] - bracket[0]) / 2**8
    assert len(visited) == len(set(visited)), "no strength is run twice"


def test_the_first_way_down_is_taken_where_accuracy_comes_back() -> None:
    strengths = search_strengths(lambda t: 0.4 if 0.6 <= t <= 1.1 else 0.8, (0.5,), n_halvings=6)
    assert strengths[0][1]
    assert 0.6 <= strengths[0][0] <= 0.61


def test_a_target_out_of_reach_gives_the_lowest_accuracy() -> None:
    assert search_strengths(lambda t: 0.9 - 0.1 * min(t, 2.0), (0.5,), n_halvings=4) == [(2.0, False)]
    assert max(GRID) > 2.0


def test_a_class_that_is_down_already_needs_no_edit() -> None:
    assert search_strengths(lambda _: 0.3, (0.5,), n_halvings=4) == [(0.0, True)]


def test_the_most_fragile_classes_with_enough_images_are_edited() -> None:
    labels = np.repeat([0, 1, 2, 3, 4], [9, 4, 9, 9, 9])
    assert choose_classes(labels, np.array([2.0, 0.1, np.nan, 1.0, 3.0])) == (3, 0, 4)
    assert choose_classes(labels, np.full(5, np.nan)) == (0, 2, 3)


def test_the_subset_is_spread_over_the_classes_and_smaller_where_runs_are_dear() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 500))
    cheap, dear = (choose_subset(labels, (7, 2), work) for work in (1e6, 1e10))
    for subset, n_own in ((cheap, MOST_OWN), (dear, LEAST_OWN)):
        assert (np.diff(subset.labels) >= 0).all()
        np.testing.assert_array_equal(labels[subset.rows], subset.labels)
        assert len(set(subset.rows.tolist())) == len(subset.rows)
        counts = np.bincount(subset.labels, minlength=10)
        assert counts[7] == counts[2] == n_own == subset.n_own
        assert len({*np.delete(counts, [2, 7]).tolist()}) == 1
        rows = subset.rows_of(7)
        assert (subset.labels[rows] == 7).all()
        assert rows.stop - rows.start == n_own
    assert len(dear.rows) < len(cheap.rows)


def test_networks_that_would_take_long_are_left_out() -> None:
    assert is_affordable(3, 4e7), "a ResNet-20 at 32 pixels, the last stage of a ResNet-18 at 64"
    assert not is_affordable(3, 1.5e8), "all of a ResNet-18 at 64 pixels"


def test_a_thousand_classes_are_thinned() -> None:
    subset = choose_subset(np.repeat(np.arange(1000), 50), (5,), 1e6)
    counts = np.bincount(subset.labels, minlength=1000)
    assert counts[5] == 50
    assert set(np.delete(counts, 5).tolist()) == {0, 1}


def test_effects_by_hand() -> None:
    rng = np.random.default_rng(0)
    labels, acts = np.repeat(np.arange(3), 20), rng.normal(size=(60, 5))
    head, other = (AffineHead(rng.normal(size=(3, 5)), rng.normal(size=3)) for _ in range(2))
    samples = sort_samples(acts, labels, head)
    weights = draw_weights(samples.counts, 400, rng)
    before, after = head.logits(acts), other.logits(acts)
    effect = measure_effect(samples, 1, after.T, weights)
    right = after.argmax(axis=1) == labels
    shares = [right[labels == index].mean() for index in range(3)]
    assert effect.own == pytest.approx(shares[1])
    assert effect.others == pytest.approx((shares[0] + shares[2]) / 2)
    assert effect.worst == pytest.approx(min(shares[0], shares[2]))
    own = labels != 1
    first, second = (np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for z in (before[own], after[own]))
    assert effect.kl == pytest.approx((first * np.log(first / second)).sum(axis=1).mean())
    assert effect.agreement == pytest.approx((before[own].argmax(axis=1) == after[own].argmax(axis=1)).mean())
    assert effect.draws.mean() == pytest.approx(effect.others, abs=0.02)
    assert measure_effect(samples, 1, before.T, weights).kl == pytest.approx(0.0, abs=1e-12)
