"""Numbers of an audit that follow from others, computed again: contradictions are named with their path."""

from __future__ import annotations

import math
from collections.abc import Iterator

from salve_audit.gate.estimates import wilson
from salve_audit.gate.measures import THIN_FLIPS, THIN_IMAGES
from salve_audit.results import AuditResult, ClassReliance, FactorEffect, ImageReliance

CLOSE = 1e-6
LEAST_CORRECT = 6  # as in salve_audit.evidence.records
MOST = 5  # contradictions that are named


def find_contradictions(result: AuditResult) -> tuple[str, ...]:
    """The first few contradictions in words; none where the numbers fit together."""
    found = []
    for contradiction in _find_all(result):
        found.append(f"audit.json contradicts itself: {contradiction}")
        if len(found) == MOST:
            break
    return tuple(found)


def _find_all(result: AuditResult) -> Iterator[str]:
    names = [class_info.name for class_info in result.classes]
    if len(set(names)) < len(names):
        yield "a class is listed twice"
    n_audit = sum(class_info.n for class_info in result.classes)
    if n_audit != result.data.n_audit:
        yield f"the classes have {n_audit} audit images, data.n_audit is {result.data.n_audit}"
    if min(result.data.n_fit, result.data.n_audit, result.data.n_skipped) < 0:
        yield "a number of images is negative"
    for i, class_info in enumerate(result.classes):
        path = f"classes[{i}] ({class_info.name})"
        if result.data.classes[class_info.index] != class_info.name:
            yield f"{path} is output {class_info.index}, which data.classes calls otherwise"
        for contradiction in (
            *_check_counts(class_info),
            *_check_flip(class_info),
            *_check_reliance(result, class_info),
        ):
            yield f"{path}: {contradiction}"


def _check_counts(class_info: ClassReliance) -> Iterator[str]:
    n, hits = class_info.n, class_info.n_correct
    if not 0 <= hits <= n:
        yield f"{hits} of {n} images are classified correctly"
        return
    if abs(class_info.accuracy - (hits / n if n else 0.0)) > CLOSE:
        yield f"accuracy is {class_info.accuracy:.4g}, and {hits} of {n} images are classified correctly"
    low, high = wilson(hits, n)
    if max(abs(low - class_info.accuracy_low), abs(high - class_info.accuracy_high)) > CLOSE:
        yield f"the interval of accuracy is not that of {hits} of {n} images"
    status = class_info.status
    if status.crossed + status.erased + status.never + status.not_applicable != n:
        yield "the numbers by status do not add up to n"


def _check_flip(class_info: ClassReliance) -> Iterator[str]:
    """The flip median: reached where half of the images flip, and inside its interval; seeds widen that."""
    flip, n_correct = class_info.alpha_hat.flip, class_info.n_correct
    if not 0 <= flip.share <= 1:
        yield f"the share of flips is {flip.share}"
        return
    n_flips = round(flip.share * n_correct)
    if class_info.thin != (n_correct < THIN_IMAGES or n_flips < THIN_FLIPS):
        yield f"thin is {class_info.thin} with {n_correct} correct images and {n_flips} flips"
    if (flip.median is not None) != (n_correct > 0 and 2 * n_flips >= n_correct):
        yield f"the flip median is {flip.median} where {flip.share:.0%} of the images flip"
    low, high = class_info.judged_interval
    if not class_info.thin and flip.median is not None and (flip.low is None or low is None):
        yield "the flip median has no lower bound"
    if not _ordered(flip.low, flip.median, flip.high) or not _ordered(low, flip.median, high):
        yield "the flip median is outside of its interval"
    if class_info.seeds is not None and (_or_inf(low) > _or_inf(flip.low) or _or_inf(high) < _or_inf(flip.high)):
        yield "the interval over images and seeds is narrower than that over images"
    if not class_info.thin and flip.high is None and _is_reached(class_info):
        yield "the flip median has no upper bound, though almost every image flips"


def _is_reached(class_info: ClassReliance) -> bool:
    """True where 95 % of the images flip: then the upper bound of the median is reached."""
    own = [part for part in class_info.distributions if part.threshold == "flip" and len(part.quantiles) > 1]
    return any(part.quantiles[-2] is not None for part in own)


def _check_reliance(result: AuditResult, class_info: ClassReliance) -> Iterator[str]:
    reliance = class_info.image_reliance
    if reliance is None:
        return
    if not 0 <= reliance.n_correct <= reliance.n <= class_info.n:
        yield f"image reliance has {reliance.n_correct} of {reliance.n} images, the class {class_info.n}"
    shares = (0.0, reliance.low, reliance.high, 1.0)  # of a maximum: the value may lie below its interval
    if list(shares) != sorted(shares) or not 0 <= reliance.reliance <= 1:
        yield "image reliance or its interval is outside of 0..1"
    if reliance.thin != (reliance.n < THIN_IMAGES or reliance.n_correct < LEAST_CORRECT):
        counts = f"{reliance.n_correct} of {reliance.n} images classified correctly"
        yield f"image reliance is thin: {reliance.thin}, with {counts}"
    if not _ordered(reliance.redundancy_low, reliance.redundancy, reliance.redundancy_high):
        yield "redundancy is outside of its interval"
    for factor in reliance.factors:
        if _outranks(factor, reliance):
            takes = f"a global factor takes {factor.removed:.3g} ({factor.name})"
            yield f"{takes}, image reliance is {reliance.reliance:.3g}"
    yield from _check_concept(result, class_info.name, reliance)


def _outranks(factor: FactorEffect, reliance: ImageReliance) -> bool:
    """Tells whether the class would depend on the factor by the rule that it was chosen by."""
    if not factor.kind:  # written when the largest drop was chosen
        return factor.removed > reliance.reliance + CLOSE
    excess = reliance.reliance - (reliance.chance or 0.0)
    return (factor.excess_low or 0.0) > 0 and (factor.excess or 0.0) > excess + CLOSE


def _check_concept(result: AuditResult, class_name: str, reliance: ImageReliance) -> Iterator[str]:
    own = {concept.index: concept for concept in result.concepts_by_class.get(class_name, ())}
    drops = [effect.drop for concept in own.values() for effect in concept.effect if effect.class_name == class_name]
    if reliance.kind in (None, "region") and max(drops, default=0.0) > reliance.reliance + CLOSE:
        yield f"a concept takes {max(drops):.3g}, image reliance is {reliance.reliance:.3g}"
    if reliance.concept is not None:
        named = own.get(reliance.concept)
        effects = [] if named is None else [part.drop for part in named.effect if part.class_name == class_name]
        if not effects or abs(effects[0] - reliance.reliance) > CLOSE:
            yield f"image reliance is not what concept {reliance.concept} takes"


def _ordered(low: float | None, value: float | None, high: float | None) -> bool:
    return _or_zero(low) <= _or_inf(value) * (1 + CLOSE) and _or_inf(value) <= _or_inf(high) * (1 + CLOSE)


def _or_inf(value: float | None) -> float:
    return math.inf if value is None else float(value)


def _or_zero(value: float | None) -> float:
    return 0.0 if value is None else float(value)
