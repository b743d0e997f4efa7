"""The measure behind every rule on a class: what audit.json says of it, as an estimate with an interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from salve_audit.gate.estimates import Estimate, known, unjudged, wilson
from salve_audit.gate.policy import Setting
from salve_audit.gate.rules import (
    ACCURACY,
    ALPHA_HAT,
    DAMAGE,
    FACTOR,
    MEASURED,
    NULL_P,
    REDUNDANCY,
    RELIANCE,
    STABLE,
    RuleKind,
)
from salve_audit.interventions.registry import SALVE
from salve_audit.results import AuditResult, ClassReliance, FactorEffect, ImageReliance
from salve_audit.results.reviewable import OBJECT, REGION, is_beyond_control, is_concept_beyond_chance

THIN_IMAGES, THIN_FLIPS = 30, 20  # as in salve_audit.reliance.survival
EDITED_TO = 0.05  # accuracy at which damage to other classes is read


@dataclass(frozen=True)
class Dependence:
    """The dependence of a class on one concept or global factor.

    Attributes:
        kind: ``region``, or the global factor.
        name: for messages.
        drop, low, high: of the class's accuracy without it.
        concept: its index in concepts[]; None: a global factor.
        family: kind of related global factors; ``region`` of a concept.
        is_beyond_chance: False where its control costs as much.
        n: images behind the drop.
    """

    kind: str
    name: str
    drop: float
    low: float
    high: float
    concept: int | None
    family: str = ""
    is_beyond_chance: bool = True
    n: int = 0

    @property
    def is_screened(self) -> bool:
        """True where the first few images alone were looked at."""
        return self.n < THIN_IMAGES


def find_dependences(result: AuditResult, class_info: ClassReliance) -> tuple[Dependence, ...]:
    """What the class depends on, by falling drop: its concepts and the global factors that were removed."""
    if class_info.image_reliance is None:
        return ()
    reliance = class_info.image_reliance
    listed = [*_of_concepts(result, class_info.name, reliance), *_of_factors(reliance)]
    return tuple(sorted(listed, key=lambda dependence: -dependence.drop))


def _of_concepts(result: AuditResult, class_name: str, reliance: ImageReliance) -> Iterator[Dependence]:
    for concept in result.concepts_by_class.get(class_name, ()):
        if concept.kind == REGION:
            beyond = is_concept_beyond_chance(concept, reliance)
            for effect in concept.effect:
                if effect.class_name == class_name:
                    name, bounds = f"concept {concept.index}", (effect.drop, effect.low, effect.high)
                    yield Dependence(REGION, name, *bounds, concept.index, REGION, beyond, reliance.n)


def _of_factors(reliance: ImageReliance) -> Iterator[Dependence]:
    for factor in reliance.factors:
        if factor.kind == OBJECT or not factor.is_removed:
            continue  # a class that depends on its object does as it should
        bounds = (factor.removed, factor.low, factor.high)
        family = factor.kind or factor.name
        beyond, n = is_beyond_control(factor), factor.n or reliance.n
        yield Dependence(factor.name, factor.name, *bounds, None, family, beyond, n)


def measure(
    setting: Setting, result: AuditResult, class_info: ClassReliance, accepted: Iterable[Dependence] = ()
) -> Estimate:
    """The estimate that a rule on a class judges.

    Args:
        setting: the rule; not one of the baseline's.
        result: the audit.
        class_info: the class.
        accepted: dependences that a review has accepted: they don't count as reliance.
    """
    if setting.kind is RELIANCE:
        return _measure_reliance(result, class_info, tuple(accepted))
    if setting.kind is FACTOR:
        return _measure_factor(result, class_info, setting.name)
    if setting.kind is REDUNDANCY:
        return _measure_redundancy(result, class_info, setting.limit or 0)
    if setting.kind is DAMAGE:
        return _measure_damage(result, class_info)
    return _BY_CLASS[setting.kind](class_info)


def why_thin(class_info: ClassReliance) -> Estimate | None:
    """The reason why the flip median of a class cannot be judged; None: it can.

    Too few images, or too few flips, are nobody's fault; images enough of which few are classified correctly are the
    model's.
    """
    few = _why_few(class_info)
    if few is not None:
        return few
    if class_info.thin:
        return unjudged(f"fewer than {THIN_FLIPS} predictions flip at any strength", thin=True, n=class_info.n)
    return None


def _why_few(class_info: ClassReliance) -> Estimate | None:
    """The reason why nothing can be said of a class's feature: too few images, or too few that are right."""
    n, n_correct = class_info.n, class_info.n_correct
    if n < THIN_IMAGES:
        return unjudged(f"{n} audit images, {THIN_IMAGES} are needed", thin=True, n=n)
    if n_correct < THIN_IMAGES:
        return unjudged(f"only {n_correct} of {n} images are classified correctly, {THIN_IMAGES} are needed")
    return None


def _measure_alpha_hat(class_info: ClassReliance) -> Estimate:
    absent = why_thin(class_info)
    if absent is not None:
        return absent
    low, high = class_info.judged_interval
    return Estimate(
        _or_inf(class_info.alpha_hat.flip.median), _or_inf(low), _or_inf(high), class_info.n_correct, on_log_scale=True
    )


def _measure_redundancy(result: AuditResult, class_info: ClassReliance, limit: float) -> Estimate:
    reliance = class_info.image_reliance
    absent = why_no_reliance(result, class_info)
    if reliance is None or absent is not None:
        return absent or unjudged("not measured")
    if limit > reliance.redundancy_limit and reliance.redundancy_high is None:
        return unjudged(f"at most {reliance.redundancy_limit} regions were removed, which says nothing of {limit:g}")
    low, high = _or_inf(reliance.redundancy_low), _or_inf(reliance.redundancy_high)
    return Estimate(_or_inf(reliance.redundancy), low, high, reliance.n, whole=True, looks=reliance.examinations)


def _measure_reliance(result: AuditResult, class_info: ClassReliance, accepted: tuple[Dependence, ...]) -> Estimate:
    reliance = class_info.image_reliance
    absent = why_no_reliance(result, class_info)
    if reliance is None or absent is not None:
        return absent or unjudged("not measured")
    if accepted:
        listed = find_dependences(result, class_info)
        rest = [part for part in listed if part not in accepted and not part.is_screened]
        if not rest:
            return known(0.0, reliance.n)
        strongest = rest[0]
        if strongest.drop < reliance.reliance:
            return estimate_drop(strongest, reliance)
    doubt, needed = _doubt(reliance)
    return Estimate(
        reliance.reliance,
        reliance.low,
        reliance.high,
        reliance.n,
        doubt=doubt,
        doubt_needs=needed,
        looks=reliance.examinations,
    )


def estimate_drop(dependence: Dependence, reliance: ImageReliance | None) -> Estimate:
    """A dependence as an estimate; `reliance`: of its class."""
    looks = 1 if reliance is None else reliance.examinations
    bounds = (dependence.drop, dependence.low, dependence.high)
    return Estimate(*bounds, dependence.n, looks=looks, screened=dependence.is_screened)


def _doubt(reliance: ImageReliance) -> tuple[str, int | None]:
    """The words for a reliance that chance explains, and the images that would tell it from chance."""
    if not reliance.is_by_chance or reliance.chance is None:
        return "", None
    excess = reliance.reliance - reliance.chance
    text = f"not distinguished from chance: random places as large take {reliance.chance:.2f}"
    if excess <= 0 or reliance.chance_high is None:
        return text, None
    half = math.hypot(reliance.reliance - reliance.low, reliance.chance_high - reliance.chance)
    return text, max(reliance.n + 1, math.ceil(reliance.n * (half / excess) ** 2))


def _measure_factor(result: AuditResult, class_info: ClassReliance, name: str) -> Estimate:
    reliance = class_info.image_reliance
    absent = why_no_reliance(result, class_info)
    if reliance is None or absent is not None:
        return absent or unjudged("not measured")
    factor = next((factor for factor in reliance.factors if factor.name == name), None)
    if factor is None:
        return unjudged(f"the factor {name!r} was not measured" if name else "no global factor was removed from images")
    if not factor.is_removed:
        return unjudged(f"the factor {name!r} was not removed from images: it was only inserted, or there was no time")
    n = factor.n or reliance.n
    return Estimate(
        factor.removed,
        factor.low,
        factor.high,
        n,
        doubt=_factor_doubt(factor),
        looks=reliance.examinations,
        screened=n < THIN_IMAGES,
    )


def _factor_doubt(factor: FactorEffect) -> str:
    if factor.chance is None or is_beyond_control(factor):
        return ""
    return f"not distinguished from its control, which takes {factor.chance:.2f}"


def why_no_reliance(result: AuditResult, class_info: ClassReliance) -> Estimate | None:
    """The reason why nothing can be said of what a class depends on; None: it can."""
    reliance = class_info.image_reliance
    if reliance is None:
        absent = "" if result.evidence is None else result.evidence.why_absent
        return unjudged("image reliance was not measured" + (f" ({absent})" if absent else ""))
    if reliance.n < THIN_IMAGES:
        return unjudged(f"{reliance.n} images were examined, {THIN_IMAGES} are needed", thin=True, n=reliance.n)
    if 2 * reliance.n_correct < reliance.n:
        return unjudged(f"only {reliance.n_correct} of {reliance.n} images examined are classified correctly")
    if reliance.thin:
        return unjudged("too few images were examined", thin=True, n=reliance.n)
    return None


def _measure_damage(result: AuditResult, class_info: ClassReliance) -> Estimate:
    edits = (edit for edit in result.interventions if edit.method == SALVE.key and edit.class_name == class_info.name)
    edit = next((edit for edit in edits if edit.target_accuracy == EDITED_TO), None)
    if edit is None:
        return unjudged("SALVE was not among the interventions")
    few = _why_few(class_info)
    if few is not None:
        return few
    if not edit.reached:
        return unjudged(f"suppressing its dominant feature does not take the class to {EDITED_TO:.0%}", thin=True)
    n_others, hits = result.counts[0] - class_info.n, result.counts[1] - class_info.n_correct
    if not n_others:
        return unjudged("there is no other class")
    before = hits / n_others
    n = edit.n_others if edit.n_others is not None else n_others
    return Estimate(before - edit.others_accuracy, before - edit.high, before - edit.low, n)


def _measure_null(class_info: ClassReliance) -> Estimate:
    if class_info.null_p is None:
        return why_thin(class_info) or unjudged("no null control could be drawn")
    return _why_few(class_info) or known(class_info.null_p, class_info.null.n_samples)


def _measure_stability(class_info: ClassReliance) -> Estimate:
    if class_info.stable is None:
        return unjudged("a single autoencoder was trained, so stability was not measured")
    return _why_few(class_info) or known(float(class_info.stable), class_info.n)


def _measure_accuracy(class_info: ClassReliance) -> Estimate:
    return measure_share(class_info.n_correct, class_info.n)


def _measure_presence(class_info: ClassReliance) -> Estimate:
    """Whether image reliance was measured, on a class that is right often enough for it to mean something."""
    reliance = class_info.image_reliance
    if reliance is not None and reliance.n >= THIN_IMAGES and 2 * reliance.n_correct < reliance.n:
        return unjudged(f"only {reliance.n_correct} of {reliance.n} images examined are classified correctly")
    return known(float(reliance is not None), class_info.n)


def measure_share(hits: int, n: int, confidence: float = 0.95) -> Estimate:
    """A share with its Wilson interval."""
    if n == 0:
        return unjudged("no audit images", thin=True)
    return Estimate(hits / n, *wilson(hits, n, confidence), n)


def _or_inf(value: float | None) -> float:
    return math.inf if value is None else float(value)


_BY_CLASS: Mapping[RuleKind, Callable[[ClassReliance], Estimate]] = {
    ALPHA_HAT: _measure_alpha_hat,
    NULL_P: _measure_null,
    STABLE: _measure_stability,
    ACCURACY: _measure_accuracy,
    MEASURED: _measure_presence,
}
