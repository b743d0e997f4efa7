"""Image reliance and concepts as audit.json holds them, from the findings in the images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from salve_audit.evidence.factors.bank import FACTORS
from salve_audit.evidence.factors.effects import describe_effects
from salve_audit.evidence.factors.measure import ExaminedImages, FactorAnswers
from salve_audit.evidence.findings import ConceptFinding, EvidenceFindings, Share
from salve_audit.evidence.search import MOST_REGIONS
from salve_audit.reliance.survival import wilson
from salve_audit.results import Concept, ConceptEffect, FactorEffect, ImageReliance, OcclusionCheck

LEAST_CORRECT = 6  # images: fewer cannot be misclassified in any number that says something
DECIMALS = 5  # of a concept's signature
HALF = 0.5
_NO_CHECKS: Mapping[int, OcclusionCheck] = MappingProxyType({})


def describe_classes(
    findings: EvidenceFindings, chance: Mapping[int, Share], checks: Mapping[int, OcclusionCheck] = _NO_CHECKS
) -> dict[int, ImageReliance]:
    """Describe the findings of every class as a record, by class index.

    Args:
        findings: of the evidence.
        chance: by class index, as `flip_at_random` gives it.
        checks: by class index, as `check_by_occlusion` gives them.
    """
    records = {}
    for finding in findings.classes:
        low, high = widen_interval(finding.reliance, finding.n)
        records[finding.label] = ImageReliance(
            n=finding.n,
            n_correct=finding.n_correct,
            reliance=finding.reliance.value,
            low=low,
            high=high,
            kind=None if finding.concept is None else "region",
            concept=finding.concept,
            redundancy=finding.redundancy,
            redundancy_low=finding.redundancy_low,
            redundancy_high=finding.redundancy_high,
            redundancy_limit=MOST_REGIONS,
            chance=None,
            thin=finding.thin or finding.n_correct < LEAST_CORRECT,
            check=checks.get(finding.label),
        )
    return set_chance(records, chance)


def set_chance(records: Mapping[int, ImageReliance], chance: Mapping[int, Share]) -> dict[int, ImageReliance]:
    """Set the drops by chance, by class index; classes without a share there keep what they have."""

    def changed(record: ImageReliance, share: Share) -> ImageReliance:
        return dataclasses.replace(record, chance=share.value, chance_low=share.low, chance_high=share.high)

    return {label: changed(record, chance[label]) if label in chance else record for label, record in records.items()}


def describe_concepts(findings: EvidenceFindings, layer: str, classes: Sequence[str]) -> tuple[Concept, ...]:
    """Describe all concepts as records, in their order.

    Args:
        findings: of the evidence.
        layer: whose activations distinguished the evidence regions.
        classes: names in output order.
    """
    sizes = {finding.label: finding.n for finding in findings.classes}
    return tuple(
        Concept(
            index=index,
            layer=layer,
            class_name=classes[concept.label],
            channels=concept.channels,
            mask_share=concept.mask_share,
            n_images=len(set(concept.images.tolist())),
            effect=_effects(concept, classes, sizes),
            signature=tuple(round(value, DECIMALS) for value in concept.centre.tolist()),
        )
        for index, concept in enumerate(findings.concepts)
    )


def _effects(concept: ConceptFinding, classes: Sequence[str], sizes: Mapping[int, int]) -> tuple[ConceptEffect, ...]:
    return tuple(
        ConceptEffect(classes[label], share.value, *widen_interval(share, sizes[label]))
        for label, share in concept.effect.items()
    )


def add_factors(
    records: Mapping[int, ImageReliance],
    concepts: tuple[Concept, ...],
    answers: Mapping[str, FactorAnswers],
    images: ExaminedImages,
    classes: Sequence[str],
) -> tuple[dict[int, ImageReliance], tuple[Concept, ...]]:
    """Add the effects of global factors; a class depends on one where `choose_factor` says so.

    Args:
        records: by class index, with chance.
        concepts: of evidence regions.
        answers: by name of the factor.
        images: that they were removed from and inserted into.
        classes: names in output order.
    """
    changed, extended = {}, list(concepts)
    for label, record in records.items():
        effects = describe_effects(answers, images, label)
        changed[label] = dataclasses.replace(record, factors=effects, sufficient=choose_sufficient(effects))
        chosen = choose_factor(record, effects)
        if chosen is None:
            continue
        changed[label] = _cap_redundancy(_depend_on(changed[label], chosen, len(extended)))
        own = (ConceptEffect(classes[label], chosen.removed, chosen.low, chosen.high),)
        areas = answers[chosen.name].area
        area = FACTORS[chosen.name].area if areas is None else float(areas[label])
        extended.append(
            Concept(len(extended), "image", classes[label], (), area, chosen.n, own, chosen.kind, factor=chosen.name)
        )
    return changed, tuple(extended)


def choose_factor(record: ImageReliance, effects: Sequence[FactorEffect]) -> FactorEffect | None:
    """Choose the global factor that the class depends on: beyond chance, and further beyond it than the region.

    The interval of each factor is corrected for their number, so the largest of them may be chosen. Of two whose
    removal does as much, the class depends on the one whose insertion does more.
    """
    beyond = [effect for effect in effects if effect.excess_low is not None and effect.excess_low > 0]
    region = record.reliance - (record.chance or 0.0)
    chosen = max(beyond, key=lambda effect: (effect.excess or 0.0, effect.inserted_excess or 0.0), default=None)
    return chosen if chosen is not None and (chosen.excess or 0.0) > region else None


def choose_sufficient(effects: Sequence[FactorEffect]) -> str | None:
    """Name the factor whose insertion turns most other images into the class, of those beyond chance."""
    beyond = [effect for effect in effects if (effect.inserted_excess_low or 0.0) > 0]
    chosen = max(beyond, key=lambda effect: effect.inserted_excess or 0.0, default=None)
    return None if chosen is None else chosen.name


def _depend_on(record: ImageReliance, effect: FactorEffect, concept: int) -> ImageReliance:
    return dataclasses.replace(
        record,
        reliance=effect.removed,
        low=effect.low,
        high=effect.high,
        kind=effect.kind,
        concept=concept,
        chance=effect.chance,
        chance_low=effect.chance_low,
        chance_high=effect.chance_high,
    )


def _cap_redundancy(record: ImageReliance) -> ImageReliance:
    """Cap redundancy at 1 where removing what the class depends on most leaves at most half of its images correct."""
    share = record.n_correct / record.n

    def capped(count: int | None, drop: float) -> int | None:
        if share - drop > HALF:
            return count
        return 1 if count is None else min(count, 1)

    return dataclasses.replace(
        record,
        redundancy=capped(record.redundancy, record.reliance),
        redundancy_low=capped(record.redundancy_low, record.high),
        redundancy_high=capped(record.redundancy_high, record.low),
    )


def widen_interval(share: Share, n: int) -> tuple[float, float]:
    """Join a share's bootstrap interval over n images with Wilson's: where none or all flipped, draws do not vary."""
    low, high = wilson(round(share.value * n), n)
    if math.isnan(share.low):
        return low, high
    return min(low, share.low), max(high, share.high)
