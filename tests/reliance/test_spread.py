"""The spread over seeds: intervals against brute-force resampling, curves against their definition."""

from __future__ import annotations

import numpy as np
import pytest

from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.reliance.scaling import Samples
from salve_audit.reliance.spread import OtherSeed, flips_of_seeds, summarise_spread, trace_seeds
from salve_audit.reliance.survival import Times, estimate_median

K, D = 3, 10


def make_times(center: float, n: int = 101, never: float = 0.0, seed: int = 0) -> Times:
    rng = np.random.default_rng(seed)
    value = center * np.exp(0.3 * rng.normal(size=n))
    observed = rng.random(n) >= never
    return Times(np.where(observed, value, value.max()), observed)


def make_samples() -> Samples:
    rng = np.random.default_rng(1)
    head = LinearHead(rng.normal(size=(K, D)).astype(np.float32), np.zeros(K, np.float32), "fc")
    acts = rng.normal(size=(120, D)).astype(np.float32)
    return Samples(acts, (acts @ head.weight.T).argmax(1), head)


def make_seed(seed: int) -> OtherSeed:
    rows = np.random.default_rng(seed).normal(size=(6, D))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return OtherSeed(rows.astype(np.float32), np.arange(K), np.ones(len(rows), dtype=bool))


def test_interval_is_that_of_resampling_seeds_and_samples() -> None:
    flips = [make_times(center, seed=i) for i, center in enumerate((1.0, 1.1, 1.6))]
    own = estimate_median(flips[0])
    spread = summarise_spread(flips, own, None, np.random.default_rng(0))
    rng = np.random.default_rng(9)
    drawn = []
    for _ in range(4000):
        value = flips[rng.integers(3)].value
        drawn.append(np.sort(rng.choice(value, len(value)))[(len(value) + 1) // 2 - 1])
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert low > own.low
    assert spread.low == own.low  # never inside the interval over samples
    assert spread.high == pytest.approx(high, rel=0.02)


def test_interval_holds_that_over_samples_and_the_medians_of_all_seeds() -> None:
    flips = [make_times(center, seed=7) for center in (1.0, 1.4, 0.8)]
    own = estimate_median(flips[0])
    spread = summarise_spread(flips, own, None, np.random.default_rng(0))
    assert spread.medians == tuple(estimate_median(class_flips).median for class_flips in flips)
    assert spread.low <= min(own.low, *spread.medians)
    assert spread.high >= max(own.high, *spread.medians)
    assert spread.low < own.low  # the other seeds widen it on both sides here
    assert spread.high > own.high


def test_seeds_that_agree_leave_the_interval_nearly_as_it_is() -> None:
    flips = [make_times(2.0, seed=3)] * 5
    own = estimate_median(flips[0])
    spread = summarise_spread(flips, own, None, np.random.default_rng(0))
    assert spread.low == pytest.approx(own.low, rel=0.05)
    assert spread.high == pytest.approx(own.high, rel=0.05)


def test_a_seed_where_most_never_flip_opens_the_interval_upwards() -> None:
    flips = [make_times(1.0, seed=0), make_times(1.0, never=0.9, seed=1)]
    spread = summarise_spread(flips, estimate_median(flips[0]), None, np.random.default_rng(0))
    assert spread.medians[1] is None
    assert spread.high is None
    assert spread.low is not None


def test_a_seed_that_does_not_reach_its_median_takes_the_bounds_of_those_that_do() -> None:
    """Enough flips for an interval, but under half: nothing is known to be robust while four seeds say 0.5."""
    rarely = make_times(1.0, n=200, never=0.85, seed=1)
    own = estimate_median(rarely)
    assert (own.low, own.median, own.high) == (None, None, None)
    assert not own.thin
    flips = [rarely, *(make_times(0.5, n=200, seed=i) for i in range(2, 6))]
    spread = summarise_spread(flips, own, None, np.random.default_rng(0))
    assert spread.low == pytest.approx(0.47, abs=0.05)
    assert spread.high is None


def test_no_interval_over_samples_none_over_seeds() -> None:
    flips = [make_times(1.0, n=4), make_times(2.0, n=4)]
    spread = summarise_spread(flips, estimate_median(flips[0]), None, np.random.default_rng(0))
    assert (spread.low, spread.high) == (None, None)


def test_curve_is_mean_and_deviation_of_the_seeds() -> None:
    samples, seeds = make_samples(), [make_seed(i) for i in range(3)]
    own = samples.of_class(1)
    curve = trace_seeds(own, [seed.coupling[1] for seed in seeds], (0.0, 0.5, 2.0))
    expected = []
    for seed in seeds:
        c = np.abs(seed.dictionary[1]).astype(np.float64)
        row = []
        for strength in (0.0, 0.5, 2.0):
            logits = own.acts @ (samples.head.weight * np.maximum(0, 1 - strength * c / c.max())).T.astype(np.float32)
            row.append(np.mean(logits.argmax(1) == 1))
        expected.append(row)
    np.testing.assert_allclose(curve.mean, np.mean(expected, axis=0))
    np.testing.assert_allclose(curve.deviation, np.std(expected, axis=0, ddof=1))
    assert curve.mean[0] == 1.0
    assert max(curve.deviation) > 0


def test_flips_are_those_of_each_seeds_own_feature() -> None:
    samples, seeds = make_samples(), [make_seed(0), make_seed(5)]
    flips = flips_of_seeds(samples, seeds)
    assert len(flips) == 2
    assert [len(class_flips.value) for class_flips in flips[0]] == np.bincount(samples.labels, minlength=K).tolist()
    assert not np.allclose(flips[0][0].value, flips[1][0].value)
