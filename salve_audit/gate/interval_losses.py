"""A loss against a baseline of what audit.json holds as an interval: image reliance, factors, redundancy, damage.

The intervals of both audits are taken for independent: that is rather too wide, for the images are the same. Of image
reliance that holds where an earlier version's audit does not say what became of single images, and for what a review
leaves of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING

from salve_audit.gate.compared import Compared
from salve_audit.gate.estimates import AUDITED, Estimate, at_confidence, unjudged, wilson
from salve_audit.gate.measures import Dependence, find_dependences, measure
from salve_audit.gate.paired_losses import LEAST_PAIRED, UNCHANGED, pair_lost
from salve_audit.gate.policy import Policy, Setting
from salve_audit.gate.review import Review, review_class
from salve_audit.gate.rules import DAMAGE, FACTOR, REDUNDANCY, RELIANCE
from salve_audit.results import AuditResult, ClassReliance

if TYPE_CHECKING:
    import numpy as np

BY_INTERVAL = {"image_reliance": RELIANCE, "redundancy": REDUNDANCY, "cross_class_damage": DAMAGE}
RISES = ("image_reliance", "global_factor", "cross_class_damage")  # measures of which more is worse
_Side = tuple[AuditResult, ClassReliance, tuple[Dependence, ...]]  # an audit, a class, what of it is accepted


def compare_intervals(
    name: str, limit: float, policy: Policy, compared: Compared, classes: tuple[ClassReliance, ClassReliance]
) -> tuple[Estimate, float]:
    """A loss from two estimates with intervals: bounds by Newcombe's method 10, p-value from the nearer bound.

    Image reliance is paired image by image where both audits say what became of single images.

    Args:
        name: of the measure.
        limit: of the loss.
        policy: in force.
        compared: both audits, and the review: dependences that it accepts are no loss.
        classes: the class in the old audit and in the new one.
    """
    review = compared.review
    audits = zip((compared.old, compared.new), classes, strict=True)
    sides = tuple((audit, part, _find_accepted(review, audit, part, policy)) for audit, part in audits)
    rules = [Setting(BY_INTERVAL[name], 0.0)] if name in BY_INTERVAL else _list_factors(sides)
    losses = [_lose(name, rule, sides, compared.is_same_network) for rule in rules]
    if not losses:  # the cause, where nothing was measured at all
        losses = [_lose(name, Setting(RELIANCE, 0.0), sides)]
        if not losses[0].reason:
            return unjudged("no global factor, but those that the review accepts, was measured in both audits"), 1.0
    estimate = max(losses, key=lambda loss: (not loss.reason, not loss.screened, loss.low, loss.value))
    if estimate.reason:
        return estimate, 1.0
    lost = _find_lost(compared, sides) if name == "image_reliance" and estimate.low < estimate.high else None
    if lost is not None:
        return pair_lost(estimate, lost, limit, policy.confidence)
    p = min(1.0, estimate.looks * _p_from_interval(estimate, limit))
    return at_confidence(estimate, policy.confidence), p


def _find_lost(compared: Compared, sides: Sequence[_Side]) -> tuple[np.ndarray, np.ndarray] | None:
    """What the strongest removals did to the images that both audits examined; None: too few, or that is not compared.

    What the review accepts does not count, and of a global factor the insertion where that does less.
    """
    pairs, is_strongest = compared.pairs, True
    for (_, part, _), estimate in zip(sides, _measure_sides(Setting(RELIANCE, 0.0), sides), strict=True):
        is_strongest &= part.image_reliance is not None and estimate.value == part.image_reliance.reliance
    lost = pairs.lost(sides[1][1].name) if pairs is not None and is_strongest else None
    return lost if lost is not None and len(lost[0]) >= LEAST_PAIRED else None


def _list_factors(sides: Sequence[_Side]) -> list[Setting]:
    """Rules of the global factors that both audits measured and the review does not accept."""
    old, new = (
        [] if part.image_reliance is None else [each.name for each in part.image_reliance.factors if each.is_removed]
        for _, part, _ in sides
    )
    accepted = {dependence.kind for dependence in sides[1][2] if dependence.concept is None}
    return [Setting(FACTOR, 0.0, name=name) for name in old if name in new and name not in accepted]


def _measure_sides(rule: Setting, sides: Sequence[_Side]) -> list[Estimate]:
    """The measure in the old audit and in the new one."""
    estimates = [measure(rule, *side) for side in sides]
    if rule.kind not in (FACTOR, RELIANCE):
        return estimates
    names = set.intersection(*(_list_inserted(part) for _, part, _ in sides))
    return [_take_both_ways(rule, side, part, names) for side, part in zip(sides, estimates, strict=True)]


def _lose(name: str, rule: Setting, sides: Sequence[_Side], is_same_network: bool = False) -> Estimate:
    """The loss of one measure, read by this rule, from the old audit to the new one."""
    old, new = _measure_sides(rule, sides)
    for part in (new, old):
        if part.reason:
            return part
    if not (math.isfinite(old.value) and math.isfinite(new.value)):
        return unjudged(f"{name} is beyond what was measured in one of the audits")
    if is_same_network and old == new:
        return replace(UNCHANGED, n=new.n, whole=new.whole)
    worse, better = (new, old) if name in RISES else (old, new)
    value = worse.value - better.value
    low = value - math.hypot(worse.value - worse.low, better.high - better.value)
    high = value + math.hypot(worse.high - worse.value, better.value - better.low)
    doubt = worse.doubt if name in RISES else ""  # chance explains what rose
    n, looks = min(old.n, new.n), max(old.looks, new.looks)
    screened = worse.screened if name in RISES else False
    return Estimate(value, low, high, n, doubt=doubt, whole=old.whole, looks=looks, screened=screened)


def _take_both_ways(rule: Setting, side: _Side, estimate: Estimate, inserted: Set[str]) -> Estimate:
    """An audit's dependence, a global factor's taken as the smaller of what its removal and its insertion do.

    A class that is recognised by what its images lack loses them to a removal, and makes nothing of an insertion; a
    factor beside which another cue suffices is the other way round. Neither alone is a dependence that rose. Of factors
    that are not `inserted` in both audits the removal counts.
    """
    result, class_info, accepted = side
    reliance = class_info.image_reliance
    is_of_a_region = rule.kind is RELIANCE and reliance is not None and reliance.concept is not None and not accepted
    if estimate.reason or estimate.doubt or is_of_a_region:
        return estimate
    listed = [each for each in find_dependences(result, class_info) if each not in accepted and each.is_beyond_chance]
    if rule.kind is FACTOR:
        listed = [each for each in listed if each.kind == rule.name]
    bounds = [_bound_both_ways(each, class_info) if each.kind in inserted else _bound(each) for each in listed]
    value, low, high = max(bounds, default=(estimate.value, estimate.low, estimate.high))
    if value >= estimate.value:
        return estimate
    return replace(estimate, value=value, low=low, high=high)


def _list_inserted(class_info: ClassReliance) -> set[str]:
    factors = () if class_info.image_reliance is None else class_info.image_reliance.factors
    return {factor.name for factor in factors if factor.is_inserted}


def _bound(dependence: Dependence) -> tuple[float, float, float]:
    return dependence.drop, dependence.low, dependence.high


def _bound_both_ways(dependence: Dependence, class_info: ClassReliance) -> tuple[float, float, float]:
    """The smaller of a factor's removal and insertion, with its bounds."""
    assert class_info.image_reliance is not None, "it was inserted"
    factor = next(each for each in class_info.image_reliance.factors if each.name == dependence.kind)
    assert factor.inserted is not None, "it was inserted"
    bounds = wilson(round(factor.inserted * factor.n_inserted), factor.n_inserted)
    value, low, high = map(min, _bound(dependence), (factor.inserted, *bounds))
    return value, low, high


def _find_accepted(
    review: Review | None, result: AuditResult, class_info: ClassReliance, policy: Policy
) -> tuple[Dependence, ...]:
    return () if review is None else review_class(review, result, class_info, policy.strong).accepted


def _p_from_interval(estimate: Estimate, limit: float) -> float:
    """One-sided p-value of a value of at most the limit, the half-width towards it taken for 1.96 deviations."""
    half = estimate.value - estimate.low
    if half <= 0:
        return 0.0 if estimate.value > limit else 1.0
    z = (estimate.value - limit) / half * NormalDist().inv_cdf(0.5 + AUDITED / 2)
    return 1 - NormalDist().cdf(z)
