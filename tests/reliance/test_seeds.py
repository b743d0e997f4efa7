"""Stability of findings over seeds: the same feature shuffled and flipped is stable, another one is not."""

from __future__ import annotations

import numpy as np

from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.reliance.by_class import class_thresholds
from salve_audit.reliance.scaling import Samples
from salve_audit.reliance.seeds import find_stable, match_dominant
from salve_audit.reliance.survival import estimate_median, flip_times

M, D = 6, 12


def make_dictionary(seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(M, D))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make_samples() -> Samples:
    rng = np.random.default_rng(5)
    weight = rng.normal(size=(2, D)).astype(np.float32)
    labels = np.repeat([0, 1], 80)
    acts = np.abs(rng.normal(size=(160, D)) + 2 * weight[labels]).astype(np.float32)
    return Samples(acts, labels, LinearHead(weight, np.zeros(2, np.float32), "fc"))


def test_matching_undoes_a_permutation_and_signs() -> None:
    dictionary = make_dictionary(0)
    order = np.array([3, 1, 5, 0, 2, 4])
    match, cosine = match_dominant(dictionary, -dictionary[order], np.array([0, 5]))
    assert order[match].tolist() == [0, 5]
    np.testing.assert_allclose(cosine, 1.0, rtol=1e-5)


def test_a_seed_with_fewer_latents_leaves_some_without_a_partner() -> None:
    dictionary = make_dictionary(0)
    match, cosine = match_dominant(dictionary, dictionary[[4, 1]], np.arange(M))
    assert match[[4, 1]].tolist() == [0, 1]
    np.testing.assert_allclose(cosine, [0, 1, 0, 0, 1, 0], atol=1e-5)


def test_findings_are_stable_exactly_when_four_of_five_seeds_agree() -> None:
    samples, dictionary = make_samples(), make_dictionary(0)
    latents = np.array([0, 1])
    coupling = np.abs(dictionary[latents].astype(np.float64))
    medians = [
        estimate_median(flip_times(class_result, coupling[i]))
        for i, class_result in enumerate(class_thresholds(samples, [coupling])[0])
    ]
    assert all(median.median is not None for median in medians)
    same = (dictionary[::-1].copy(), *match_dominant(dictionary, dictionary[::-1], latents))
    foreign = (make_dictionary(9), np.array([0, 1]), np.array([0.1, 0.1]))
    assert find_stable(samples, medians, []) == [None, None]
    assert find_stable(samples, medians, [same] * 4) == [True, True]
    assert find_stable(samples, medians, [same] * 3 + [foreign]) == [True, True]
    assert find_stable(samples, medians, [same] * 2 + [foreign] * 2) == [False, False]
    fewer = (dictionary[:4].copy(), *match_dominant(dictionary, dictionary[:4], latents))
    assert find_stable(samples, medians, [same] * 3 + [fewer]) == [True, True]


def test_a_match_with_another_flip_median_does_not_count() -> None:
    """One direction by cosine, but a threshold outside the interval: not the same finding."""
    samples, dictionary = make_samples(), make_dictionary(0)
    coupling = np.abs(dictionary[[0, 1]].astype(np.float64))
    medians = [
        estimate_median(flip_times(class_result, coupling[i]))
        for i, class_result in enumerate(class_thresholds(samples, [coupling])[0])
    ]
    other = make_dictionary(3)
    claimed = (other, np.array([4, 5]), np.array([0.99, 0.99]))
    theirs = class_thresholds(samples, [np.abs(other[[4, 5]].astype(np.float64))])[0]
    expected = []
    for i, median in enumerate(theirs):
        interval = estimate_median(flip_times(median, np.abs(other[4 + i].astype(np.float64))))
        inside = interval.low is not None and interval.high is not None
        expected.append(bool(inside and interval.low <= medians[i].median <= interval.high))
    assert find_stable(samples, medians, [claimed] * 4) == expected
    assert False in expected
