"""Matching of dictionaries against brute force and known answers."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from salve_audit.sae.models import TrainedSae
from salve_audit.sae.stability import (
    assess_stability,
    compare_pairs,
    compute_subspace_overlap,
    find_representative,
    match_dictionaries,
    orthonormal_span,
)


def make_sae(rows: np.ndarray, dead: tuple[int, ...] = ()) -> TrainedSae:
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    encoder = rows.copy()
    encoder[list(dead)] = 0
    m, d = rows.shape
    return TrainedSae("linear-l1", rows, encoder, np.zeros(m, np.float32), np.zeros(d, np.float32), {})


def test_matching_is_optimal():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = make_sae(rng.normal(size=(5, 3))), make_sae(rng.normal(size=(5, 3)))
        best = max(sum(abs(a.dictionary[i] @ b.dictionary[p[i]]) for i in range(5)) for p in permutations(range(5)))
        matching = match_dictionaries(a, b)
        assert matching.cosine.sum() == pytest.approx(best, rel=1e-6)
        assert sorted(matching.partner) == list(range(5))


def test_a_permuted_and_flipped_dictionary_is_the_same():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, 9))
    order, sign = rng.permutation(6), rng.choice([-1, 1], 6)
    other = make_sae(sign[:, None] * rows[order])
    matching = match_dictionaries(make_sae(rows), other)
    np.testing.assert_allclose(matching.cosine, 1, atol=1e-6)
    assert order[matching.partner].tolist() == list(range(6))
    stability = assess_stability(compare_pairs([make_sae(rows), other]))
    assert (stability.n_seeds, stability.share_matched) == (2, 1.0)
    assert stability.subspace_overlap == pytest.approx(1)


def test_dead_latents_have_no_partner():
    rows = np.eye(4)
    matching = match_dictionaries(make_sae(rows, dead=(1,)), make_sae(rows, dead=(0, 2)))
    assert matching.partner.tolist()[1] == -1
    assert matching.partner.tolist()[3] == 3
    assert 0 not in matching.partner
    assert 2 not in matching.partner
    stability = assess_stability(compare_pairs([make_sae(rows, dead=(1,)), make_sae(rows, dead=(0, 2))]))
    assert stability.matched_cosine == pytest.approx(1 / 3)  # rows 0, 2, 3 live; only 3 is found again


def overlap_of(sae, other):
    return compute_subspace_overlap(orthonormal_span(sae), orthonormal_span(other))


def test_subspace_overlap_of_known_spans():
    rows = np.eye(4)
    assert overlap_of(make_sae(rows[:2]), make_sae(rows[2:])) == 0
    assert overlap_of(make_sae(rows[:2]), make_sae(rows[1:3])) == pytest.approx(0.5)
    assert overlap_of(make_sae(rows[:2]), make_sae(rows[:3])) == pytest.approx(2 / 3)
    turned = np.array([[1, 1, 0, 0], [1, -1, 0, 0]])
    assert overlap_of(make_sae(rows[:2]), make_sae(turned)) == pytest.approx(1)


def test_one_seed_has_no_stability():
    assert assess_stability(compare_pairs([make_sae(np.eye(3))])) is None


def test_random_dictionaries_are_not_stable():
    rng = np.random.default_rng(0)
    stability = assess_stability(compare_pairs([make_sae(rng.normal(size=(10, 100))) for _ in range(3)]))
    assert stability.share_matched == 0
    assert stability.matched_cosine < 0.4
    assert stability.subspace_overlap == pytest.approx(10 / 100, abs=0.05)


def test_the_seed_that_the_others_resemble_most_represents_them(train_quickly):
    sae = train_quickly("linear-l1").sae
    odd = replace(sae, dictionary=np.ascontiguousarray(np.roll(sae.dictionary, 5, axis=1)))
    pairs = compare_pairs([odd, sae, sae, sae])
    assert find_representative(pairs, [0, 1, 2, 3]) == 1
    assert find_representative(pairs, [0, 3]) == 3
    assert find_representative(compare_pairs([odd]), [0]) == 0


def test_a_seed_with_fewer_latents_is_not_the_most_typical_for_it():
    """All of its rows find partners, but the others' rows do not find one in it."""
    rows = np.eye(6)
    full, half = make_sae(rows), make_sae(rows[:3])
    pairs = compare_pairs([half, full, full])
    np.testing.assert_allclose(pairs.cosine, [[1, 0.5, 0.5], [0.5, 1, 1], [0.5, 1, 1]], atol=1e-6)
    assert find_representative(pairs, [0, 1, 2]) == 1
    assert assess_stability(pairs).matched_cosine == pytest.approx(2 / 3)
