"""Spread over seeds of the autoencoder: flip medians, an interval, suppression curves.

Each seed is taken as an audit of its own: its own dominant feature of the class, not the one matched to ours. The
interval is a bootstrap on two levels (docs/method.md §4): a seed is drawn, then that seed's samples with replacement.
It never lies inside the interval over samples alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from salve_audit.reliance.by_class import class_thresholds
from salve_audit.reliance.scaling import Samples, correct_under, suppressing
from salve_audit.reliance.survival import MedianEstimate, Times, estimate_median, flip_times
from salve_audit.results import SeedCurve, SeedSpread
from salve_audit.tasks import TaskMap, map_threads

N_DRAWS = 4000
LEVEL = 0.95


@dataclass(frozen=True)
class OtherSeed:
    """An autoencoder like the audited one but for its seed.

    Attributes:
        dictionary: (m, d), unit-norm rows.
        dominant: (k,) its own dominant latent of every class.
        alive: (m,) the latent fires on some fit sample.
    """

    dictionary: Float[np.ndarray, "m d"]
    dominant: Int[np.ndarray, " k"]
    alive: Bool[np.ndarray, " m"]

    @property
    def coupling(self) -> Float[np.ndarray, "k d"]:
        """(k, d), the coupling of every class's dominant latent."""
        return np.abs(self.dictionary[self.dominant].astype(np.float64))


def flips_of_seeds(audit: Samples, seeds: Sequence[OtherSeed], tasks: TaskMap = map_threads) -> list[list[Times]]:
    """Per seed and class: flip thresholds in α̂ under that seed's own dominant feature."""
    couplings = [seed.coupling for seed in seeds]
    return [
        [flip_times(thresholds, row) for thresholds, row in zip(found, coupling, strict=True)]
        for coupling, found in zip(couplings, class_thresholds(audit, couplings, tasks), strict=True)
    ]


def summarise_spread(
    flips: Sequence[Times], median: MedianEstimate, curve: SeedCurve | None, rng: np.random.Generator
) -> SeedSpread:
    """One class over all seeds.

    Args:
        flips: per seed its flip thresholds of the class, the audited seed first.
        median: of the audited seed.
        curve: see `trace_seeds`.
        rng: of the bootstrap.
    """
    low, high = _widen(median, _bootstrap(flips, rng))
    medians = tuple(estimate_median(times).median for times in flips)
    return SeedSpread(n_seeds=len(flips), medians=medians, low=low, high=high, curve=curve)


def _bootstrap(flips: Sequence[Times], rng: np.random.Generator) -> tuple[float, float]:
    """Percentile interval; inf: not reached.

    All censoring lies beyond the last threshold, so the Kaplan-Meier median of a sample is its order statistic of rank
    ⌈n/2⌉, and of a bootstrap sample the order statistic whose position is a beta variate: no resampling is needed.
    """
    medians, chosen = np.empty(N_DRAWS), rng.integers(len(flips), size=N_DRAWS)
    for seed, times in enumerate(flips):
        value = np.sort(np.where(times.observed, times.value, np.inf))
        n, rank = len(value), (len(value) + 1) // 2
        rows = np.flatnonzero(chosen == seed)
        if n == 0:  # no image of the class is classified right
            medians[rows] = np.inf
            continue
        place = rng.beta(rank, n - rank + 1, size=len(rows))
        medians[rows] = value[np.minimum((place * n).astype(int), n - 1)]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(medians, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)


def _widen(median: MedianEstimate, interval: tuple[float, float]) -> tuple[float | None, float | None]:
    """The hull of both intervals; None: not reached, or unknown because the class has no interval over samples."""
    if not median.has_interval:
        return None, None
    low = min(np.inf if median.low is None else median.low, interval[0])
    high = max(np.inf if median.high is None else median.high, interval[1])
    return (low if np.isfinite(low) else None), (float(high) if np.isfinite(high) else None)


def trace_seeds(own: Samples, couplings: Sequence[Float[np.ndarray, " d"]], strengths: Sequence[float]) -> SeedCurve:
    """Mean and standard deviation over seeds of the class's accuracy under suppression.

    Args:
        own: audit samples of one class, at least one.
        couplings: per seed, of its own dominant feature of the class.
        strengths: α̂.
    """
    accuracy = np.array(
        [
            [correct_under(own, suppressing(coupling, strength)).mean() for strength in strengths]
            for coupling in couplings
        ]
    )
    spread = accuracy.std(axis=0, ddof=1) if len(accuracy) > 1 else np.zeros(len(strengths))
    return SeedCurve(
        alpha_hat=tuple(float(v) for v in strengths),
        mean=tuple(float(v) for v in accuracy.mean(axis=0)),
        deviation=tuple(float(v) for v in spread),
    )
