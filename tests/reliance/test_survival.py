"""Medians, intervals and tests against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from salve_audit.reliance.survival import Times, censor, compare_classes, estimate_median, log_rank_p, quantiles, wilson


def times(values: list[float], last: float = float("inf")) -> Times:
    return censor(np.array(values), last)


def test_what_is_never_reached_is_censored_not_dropped() -> None:
    dropped = estimate_median(times([1.0, 2.0, 3.0]))
    estimate = estimate_median(times([1.0, 2.0, 3.0, np.inf, np.inf]))
    assert dropped.median == 2.0
    assert estimate.median == 3.0
    assert estimate.share == pytest.approx(0.6)


def test_not_applicable_samples_are_left_out() -> None:
    assert estimate_median(times([np.nan, 1.0, np.nan, 2.0, 3.0])).n == 3


def test_a_median_that_half_never_reach_is_none() -> None:
    estimate = estimate_median(times([1.0, 2.0, np.inf, np.inf, np.inf]))
    assert estimate.median is None
    assert estimate.share == pytest.approx(0.4)


def test_erased_samples_are_censored_at_the_last_strength() -> None:
    censored = times([1.0, 5.0, 5.0], last=5.0)
    assert censored.observed.tolist() == [True, False, False]
    assert censored.value.tolist() == [1.0, 5.0, 5.0]


def test_no_events_and_no_samples() -> None:
    assert estimate_median(times([np.inf] * 40)).median is None
    assert estimate_median(times([])).n == 0
    assert quantiles(times([]))[0] is None


def test_interval_is_scipys_log_log_band_and_covers() -> None:
    """Over 300 repetitions the interval contains the true median about as often as it says."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        sample = rng.exponential(size=60)
        sample[sample > 2.5] = np.inf
        estimate = estimate_median(times(sample.tolist()))
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= np.log(2) <= estimate.high
    assert 0.91 <= hits / 300 <= 0.99


def test_thin_and_no_interval() -> None:
    rng = np.random.default_rng(1)
    few = estimate_median(times(rng.exponential(size=5).tolist()))
    assert few.median is not None
    assert (few.low, few.high, few.thin) == (None, None, True)
    rare = estimate_median(times([*rng.exponential(size=19), *[np.inf] * 100]))
    assert rare.thin
    assert not estimate_median(times(rng.exponential(size=30).tolist())).thin


@pytest.mark.parametrize("seed", range(5))
def test_log_rank_equals_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first_times = times(np.where(rng.random(40) < 0.2, np.inf, rng.exponential(size=40).round(1) + 0.1).tolist())
    second_times = times(np.where(rng.random(55) < 0.1, np.inf, rng.exponential(1.4, size=55).round(1) + 0.1).tolist())
    expected = stats.logrank(first_times.censored(), second_times.censored()).pvalue
    assert log_rank_p(first_times, second_times) == pytest.approx(expected, rel=1e-9)


def test_classes_that_differ_are_distinguished_and_equal_ones_are_not() -> None:
    rng = np.random.default_rng(2)
    same = [times(rng.exponential(size=200).tolist()) for _ in range(4)]
    other = times((5 + rng.exponential(size=200)).tolist())
    thin = times([0.01] * 10)
    differ = compare_classes([*same, other, thin])
    assert differ[4, :4].all()
    assert not differ[:4, :4].any()
    assert not differ[5].any()
    assert (differ == differ.T).all()


def test_quantiles_are_order_statistics_with_infinite_tails() -> None:
    levels = quantiles(times([*range(1, 11), *[np.inf] * 10]))
    assert levels[0] == 1.0
    assert levels[10] == 10.0
    assert levels[11] is None


def test_wilson_interval_by_the_formula() -> None:
    low, high = wilson(8, 10)
    z, p, n = stats.norm.ppf(0.975), 0.8, 10
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert (low, high) == (pytest.approx(centre - half), pytest.approx(centre + half))
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("n", "interval"), [(5, (None, None)), (6, (0.5, 0.5)), (20, (0.5, 0.5))])
def test_equal_times_are_an_interval_of_their_own(n: int, interval: tuple[float | None, float | None]) -> None:
    estimate = estimate_median(censor(np.full(n, 0.5), 10.0))
    assert (estimate.median, estimate.low, estimate.high) == (0.5, *interval)
