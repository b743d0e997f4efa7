"""Estimates with intervals, at any confidence, and what a limit says of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

from salve_audit.results.intervals import wilson_interval

AUDITED = 0.95  # confidence of the intervals in audit.json
MOST_IMAGES = 10_000_000  # more than that decides nothing in practice


@dataclass(frozen=True)
class Estimate:
    """A measure of one class, or the reason why there is none.

    Attributes:
        value, low, high: with the interval; ``inf`` where a bound is not reached.
        n: images behind it.
        reason: why it cannot be judged; empty: it can.
        thin: it cannot for want of images or flips alone.
        doubt: why a value beyond the limit is still no violation; empty: it is one.
        doubt_needs: images that would settle the doubt; None: no number would, or there is none.
        on_log_scale: the interval is symmetrical in the logarithm.
        whole: the value is a count.
        looks: times that images were examined for it; after the first the interval has to be wider.
        screened: seen on the first few images alone, and too weak there to be measured: it may hold, and never fails.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    reason: str = ""
    thin: bool = False
    doubt: str = ""
    doubt_needs: int | None = None
    on_log_scale: bool = False
    whole: bool = False
    looks: int = 1
    screened: bool = False


@dataclass(frozen=True)
class Decision:
    """The outcome of a limit on an estimate: ``pass``, ``fail``, ``undecided`` or ``thin``, and why."""

    outcome: str
    why: str = ""
    n_needed: int | None = None


def unjudged(reason: str, thin: bool = False, n: int = 0) -> Estimate:
    """An estimate that is not there."""
    return Estimate(reason=reason, thin=thin, n=n)


def known(value: float, n: int = 0) -> Estimate:
    """An estimate without an interval: a switch, or a p-value."""
    return Estimate(value, value, value, n)


def at_confidence(estimate: Estimate, confidence: float) -> Estimate:
    """The estimate with the interval of another confidence.

    Half-widths scale with the normal quantile, on the scale on which the interval is symmetrical: that is exact for
    normal estimates and close for the others. Counts cannot be scaled: their interval is only ever widened. Where
    images were examined more than once, the confidence allows for it.
    """
    confidence = allow_for(confidence, estimate.looks)
    if estimate.reason or confidence == AUDITED:
        return estimate
    ratio = _quantile(confidence) / _quantile(AUDITED)
    if estimate.whole:
        if ratio <= 1 or not math.isfinite(estimate.value):
            return estimate
        low, high = (estimate.value + ratio * (bound - estimate.value) for bound in (estimate.low, estimate.high))
        return replace(estimate, low=math.floor(low), high=math.ceil(high) if math.isfinite(high) else high)
    low, high = (_scaled(estimate, bound, ratio) for bound in (estimate.low, estimate.high))
    return replace(estimate, low=low, high=high)


def allow_for(confidence: float, looks: int) -> float:
    """The confidence of each of several looks that err together as seldom as one of `confidence` (Bonferroni)."""
    return 1 - (1 - confidence) / looks


def _scaled(estimate: Estimate, bound: float, ratio: float) -> float:
    value = estimate.value
    if not (math.isfinite(value) and math.isfinite(bound)):
        return bound
    if estimate.on_log_scale and value > 0 and bound > 0:
        return value * (bound / value) ** ratio
    return value + ratio * (bound - value)


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def decide(estimate: Estimate, limit: float, at_least: bool) -> Decision:
    """Violated when the whole interval lies beyond the limit, undecided when the interval contains it."""
    if estimate.reason:
        return Decision("thin", estimate.reason)
    beyond = estimate.high < limit if at_least else estimate.low > limit
    within = estimate.low >= limit if at_least else estimate.high <= limit
    if estimate.screened and not within:
        return Decision("thin", f"screened on {estimate.n} images, and too weak on these to be examined further")
    if beyond and estimate.doubt:
        needs = f": about {estimate.doubt_needs:,} images would tell" if estimate.doubt_needs else ""
        return Decision("undecided", estimate.doubt + needs, estimate.doubt_needs)
    if beyond or within:
        return Decision("fail" if beyond else "pass")
    needed = count_needed(estimate, limit)
    said = (
        "no number of images is likely to decide it" if needed is None else f"about {needed:,} images would decide it"
    )
    return Decision("undecided", f"the interval contains the limit; {said}", needed)


def count_needed(estimate: Estimate, limit: float) -> int | None:
    """Images at which the interval would no longer contain the limit, were the value to stay: widths fall as 1/√n.

    None: the value is at the limit or not reached, or that would be more than any audit has.
    """
    value, n = estimate.value, estimate.n
    bound = estimate.low if value > limit else estimate.high
    values = (value, limit, bound)
    if estimate.on_log_scale:
        if min(values) <= 0:
            return None
        values = tuple(math.log(part) for part in values)  # type: ignore[assignment]
    value, limit, bound = values
    if not all(map(math.isfinite, values)) or value == limit or n < 1:
        return None
    needed = math.ceil(n * ((bound - value) / (limit - value)) ** 2)
    return max(needed, n + 1) if needed <= MOST_IMAGES else None


def wilson(hits: int, n: int, confidence: float = AUDITED) -> tuple[float, float]:
    """Wilson interval of a share; (0, 1) without samples."""
    if n == 0:
        return 0.0, 1.0
    low, high = wilson_interval(hits / n, n, _quantile(confidence))
    return low if hits else 0.0, high if hits < n else 1.0


def finite(value: float) -> float | None:
    """The value as audit.json holds it: None where it is not reached or not there."""
    return value if math.isfinite(value) else None
