"""Class summaries of censored thresholds: Kaplan-Meier medians with intervals, and log-rank tests (docs/method.md §4).

A threshold that is never reached is right-censored, not dropped: dropping the most robust samples would bias the
median downwards. All censoring lies beyond the last breakpoint, where nothing changes any more.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float
from scipy import stats

from salve_audit.reliance.thresholds import Thresholds

THIN_SAMPLES, THIN_EVENTS, NO_INTERVAL = 30, 20, 6
LEAST_EQUAL = 6  # equal times between which the median lies with over 95 %: smallest and largest of n, 1 - 2^(1 - n)
QUANTILES = tuple(round(0.05 * i, 2) for i in range(21))
LARGE_FAMILY = 50  # from so many classes on the false discovery rate is controlled instead


@dataclass(frozen=True)
class Times:
    """Per-sample thresholds in α̂.

    Attributes:
        value: (n,) the threshold, or where it is censored the largest strength known not to reach it.
        observed: (n,) False: right-censored.
    """

    value: Float[np.ndarray, " n"]
    observed: Bool[np.ndarray, " n"]

    def censored(self) -> stats.CensoredData:
        """These times as scipy's survival functions take them."""
        return stats.CensoredData(uncensored=self.value[self.observed], right=self.value[~self.observed])


@dataclass(frozen=True)
class MedianEstimate:
    """Kaplan-Meier median with a 95 % interval (log-log band); None: not reached, or too few samples.

    Attributes:
        n, n_events: samples, and samples whose threshold is reached.
    """

    median: float | None
    low: float | None
    high: float | None
    n: int
    n_events: int

    @property
    def share(self) -> float:
        """Share of samples whose threshold is reached."""
        return self.n_events / self.n if self.n else 0.0

    @property
    def has_interval(self) -> bool:
        """True if there are enough samples and events for one; a bound that is None is then one that is not reached."""
        return self.n >= NO_INTERVAL and self.n_events >= 2

    @property
    def thin(self) -> bool:
        """Too few samples or events to be judged."""
        return self.n < THIN_SAMPLES or self.n_events < THIN_EVENTS


def censor(threshold: Float[np.ndarray, " n"], last: float) -> Times:
    """Times of the applicable samples; what is never reached, or only when every weight is gone, is censored.

    Args:
        threshold: (n,) in α̂; NaN: not applicable (left out), inf: never.
        last: α̂ at which the last weight is gone, inf when some coordinate has no coupling.
    """
    value = threshold[~np.isnan(threshold)]
    observed = value < last * (1 - 1e-12)
    finite = value[np.isfinite(value)]
    beyond = last if np.isfinite(last) else float(finite.max(initial=1.0))
    return Times(np.where(observed, value, beyond), observed)


def flip_times(thresholds: Thresholds, coupling: Float[np.ndarray, " d"]) -> Times:
    """Flip thresholds of a class in α̂, censored where nothing flips.

    Args:
        thresholds: thresholds of the class's samples, in α.
        coupling: (d,) of the feature.
    """
    return censor(thresholds.flip * (float(coupling.max(initial=0.0)) or 1.0), last_strength(coupling))


def last_strength(coupling: Float[np.ndarray, " d"]) -> float:
    """α̂ at which the last weight is gone; inf where some coordinate has no coupling."""
    least = float(coupling.min(initial=np.inf))
    return float(coupling.max(initial=0.0)) / least if least > 0 else float("inf")


def estimate_median(times: Times) -> MedianEstimate:
    """Kaplan-Meier median of the times."""
    n, n_events = len(times.value), int(times.observed.sum())
    if n_events == 0:
        return MedianEstimate(None, None, None, n, n_events)
    curve = stats.ecdf(times.censored()).sf
    median = _first_at_most_half(curve)
    estimate = MedianEstimate(median, None, None, n, n_events)
    if not estimate.has_interval:
        return estimate
    if n_events == n >= LEAST_EQUAL and np.ptp(times.value) == 0:  # survival falls from 1 to 0: the band is undefined
        return MedianEstimate(median, median, median, n, n_events)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # undefined where survival is 0 or 1: those bounds are unused
        band = curve.confidence_interval(confidence_level=0.95, method="log-log")
    low, high = _first_at_most_half(band.low), _first_at_most_half(band.high)
    return MedianEstimate(median, low, high, n, n_events)


def _first_at_most_half(curve: object) -> float | None:
    """First time at which a survival curve is at most 0.5; NaN bounds (at its ends) do not count."""
    times = np.asarray(curve.quantiles)  # type: ignore[attr-defined]
    survival = np.asarray(curve.probabilities)  # type: ignore[attr-defined]
    hits = np.flatnonzero(survival <= 0.5 + 1e-12)
    return float(times[hits[0]]) if len(hits) else None


def quantiles(times: Times) -> tuple[float | None, ...]:
    """Quantiles at 0, 0.05, ..., 1; None where that quantile is not reached."""
    if not len(times.value):
        return tuple(None for _ in QUANTILES)
    value = np.sort(np.where(times.observed, times.value, np.inf))
    at = [value[max(0, int(np.ceil(q * len(value))) - 1)] for q in QUANTILES]
    return tuple(float(v) if np.isfinite(v) else None for v in at)


def compare_classes(times: Sequence[Times]) -> npt.NDArray[np.bool_]:
    """(k, k) True where two classes' thresholds differ at 5 %: log-rank with Holm's or Benjamini-Hochberg's correction.

    Holm's correction holds below 50 classes, Benjamini-Hochberg's from 50 on.

    Thin classes are compared with none.
    """
    k = len(times)
    usable = [i for i in range(k) if not _is_thin(times[i])]
    pairs = [(i, j) for place, i in enumerate(usable) for j in usable[place + 1 :]]
    differ = np.zeros((k, k), dtype=bool)
    if pairs:
        p = np.array([log_rank_p(times[i], times[j]) for i, j in pairs])
        rejected = _benjamini_hochberg(p) if k >= LARGE_FAMILY else _holm(p)
        for (i, j), yes in zip(pairs, rejected, strict=True):
            differ[i, j] = differ[j, i] = yes
    return differ


def log_rank_p(first: Times, second: Times) -> float:
    """Two-sided p of the log-rank test (as scipy.stats.logrank, by sorting instead of a loop over times)."""
    value = np.concatenate([first.value, second.value])
    observed = np.concatenate([first.observed, second.observed])
    group = np.concatenate([np.ones(len(first.value)), np.zeros(len(second.value))])
    order = np.argsort(value, kind="stable")
    value, observed, group = value[order], observed[order], group[order]
    starts = np.flatnonzero(np.diff(value, prepend=-np.inf) > 0)
    events = np.add.reduceat(observed.astype(float), starts)
    events_first = np.add.reduceat(observed * group, starts)
    at_risk = (len(value) - starts).astype(float)
    at_risk_first = np.concatenate([np.cumsum(group[::-1])[::-1], [0.0]])[starts]
    share = at_risk_first / at_risk
    surplus = (events_first - events * share).sum()
    spread = events * share * (1 - share) * (at_risk - events)
    variance = np.divide(spread, at_risk - 1, out=np.zeros_like(spread), where=at_risk > 1).sum()
    return float(stats.chi2.sf(surplus**2 / variance, 1)) if variance > 0 else 1.0


def _is_thin(times: Times) -> bool:
    return len(times.value) < THIN_SAMPLES or int(times.observed.sum()) < THIN_EVENTS


def _holm(p: Float[np.ndarray, " t"], level: float = 0.05) -> npt.NDArray[np.bool_]:
    order = np.argsort(p)
    passed = p[order] <= level / (len(p) - np.arange(len(p)))
    rejected = np.zeros(len(p), dtype=bool)
    rejected[order] = np.logical_and.accumulate(passed)
    return rejected


def _benjamini_hochberg(p: Float[np.ndarray, " t"], level: float = 0.05) -> npt.NDArray[np.bool_]:
    return np.asarray(stats.false_discovery_control(p) <= level)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % Wilson interval of a share; (0, 1) without samples."""
    if n == 0:
        return 0.0, 1.0
    interval = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
