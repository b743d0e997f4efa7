"""Intervals at any confidence, and the number of images that would decide."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from salve_audit.gate.estimates import Estimate, at_confidence, count_needed, decide, wilson


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (3, 17), (180, 200), (1, 100000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_is_scipys(hits: int, n: int, confidence: float) -> None:
    expected = stats.binomtest(hits, n).proportion_ci(confidence, method="wilson")
    assert wilson(hits, n, confidence) == (
        pytest.approx(expected.low, abs=1e-12),
        pytest.approx(expected.high, abs=1e-12),
    )


def test_without_images_a_share_is_unknown() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_normal_intervals_scale_exactly() -> None:
    z95, z99 = stats.norm.ppf([0.975, 0.995])
    scaled = at_confidence(Estimate(0.5, 0.5 - 0.1 * z95, 0.5 + 0.1 * z95, 10), 0.99)
    assert (scaled.low, scaled.high) == (pytest.approx(0.5 - 0.1 * z99), pytest.approx(0.5 + 0.1 * z99))
    in_logs = Estimate(2.0, 2 * math.exp(-0.1 * z95), 2 * math.exp(0.2 * z95), 10, on_log_scale=True)
    scaled = at_confidence(in_logs, 0.99)
    assert (scaled.low, scaled.high) == (
        pytest.approx(2 * math.exp(-0.1 * z99)),
        pytest.approx(2 * math.exp(0.2 * z99)),
    )


def test_counts_are_only_ever_widened() -> None:
    count = Estimate(3, 2, 4, 10, whole=True)
    assert at_confidence(count, 0.8) == count
    wider = at_confidence(count, 0.99)
    assert (wider.low, wider.high) == (1, 5)
    unreached = Estimate(math.inf, 3, math.inf, 10, whole=True)
    assert at_confidence(unreached, 0.99) == unreached


def test_the_number_that_decides_is_the_one_at_which_the_interval_leaves_the_limit() -> None:
    share, limit = 0.4, 0.45
    for n in (50, 100, 400):
        low, high = wilson(round(share * n), n)
        needed = count_needed(Estimate(share, low, high, n), limit)
        assert needed is not None
        low, high = wilson(round(share * needed * 1.1), round(needed * 1.1))
        assert high < limit + 0.01
        low, high = wilson(round(share * needed * 0.5), round(needed * 0.5))
        assert high > limit


def test_no_number_decides_a_value_at_the_limit() -> None:
    decision = decide(Estimate(0.5, 0.4, 0.6, 100), 0.5, at_least=False)
    assert (decision.outcome, decision.n_needed) == ("undecided", None)
    assert "no number of images" in decision.why
    assert decide(Estimate(0.500001, 0.4, 0.6, 100), 0.5, at_least=False).n_needed is None
    assert decide(Estimate(0.55, 0.4, 0.7, 100), 0.5, at_least=False).why.endswith("about 900 images would decide it")


def test_decisions_have_the_right_error_rate() -> None:
    """A class at the limit fails at the rate of one tail of its interval, whichever way the limit points."""
    rng = np.random.default_rng(0)
    hits = rng.binomial(200, 0.3, size=4000)
    for at_least in (True, False):
        failed = [decide(Estimate(h / 200, *wilson(int(h), 200), 200), 0.3, at_least).outcome == "fail" for h in hits]
        assert 0.015 < np.mean(failed) < 0.035
