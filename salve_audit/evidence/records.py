"""Image reliance and concepts as audit.json holds them, from the findings in the images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Int

from salve_audit.evidence.controls import FACTORS
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


@dataclass(frozen=True)
class FactorFlips:
    """Images that flip without each global factor, and the drops by chance where a class depends on one.

    Attributes:
        flipped: by name of the factor (n,), as `flip_without_factors` gives them.
        labels: (n,) class index of each image.
        chance: by class index, for the factor that the class depends on.
    """

    flipped: Mapping[str, Bool[np.ndarray, " n"]]
    labels: Int[np.ndarray, " n"]
    chance: Mapping[int, Share] = field(default_factory=lambda: MappingProxyType({}))


def add_factors(
    records: Mapping[int, ImageReliance], concepts: tuple[Concept, ...], factors: FactorFlips, classes: Sequence[str]
) -> tuple[dict[int, ImageReliance], tuple[Concept, ...]]:
    """Add the effects of global factors; a class depends on the one it loses more without than without any region.

    The chance of such a class is still that of places: see `set_chance`.

    Args:
        records: by class index.
        concepts: of evidence regions.
        factors: images that flip without each.
        classes: names in output order.
    """
    changed = {label: _with_factors(record, label, factors) for label, record in records.items()}
    extended = list(concepts)
    reliance = {label: record.reliance for label, record in records.items()}
    for label, kind in choose_factors(reliance, factors.flipped, factors.labels).items():
        record = changed[label]
        effect = next(effect for effect in record.factors if effect.name == kind)
        dependent = dataclasses.replace(
            record, reliance=effect.removed, low=effect.low, high=effect.high, kind=kind, concept=len(extended)
        )
        changed[label] = _cap_redundancy(dependent)
        own = (ConceptEffect(classes[label], effect.removed, effect.low, effect.high),)
        extended.append(Concept(len(extended), "image", classes[label], (), FACTORS[kind].area, record.n, own, kind))
    return changed, tuple(extended)


def _with_factors(record: ImageReliance, label: int, factors: FactorFlips) -> ImageReliance:
    """Add the effect of every factor to the record, with its chance where its control was run for the class."""
    reliance = {label: record.reliance}
    chosen = choose_factors(reliance, factors.flipped, factors.labels).get(label)
    effects = []
    for name, flipped in factors.flipped.items():
        own = flipped[factors.labels == label]
        low, high = wilson(int(own.sum()), len(own))
        chance = factors.chance.get(label) if name == chosen else None
        effects.append(FactorEffect(name, float(own.mean()), low, high, None if chance is None else chance.value))
    return dataclasses.replace(record, factors=tuple(effects))


def choose_factors(
    reliance: Mapping[int, float], flipped: Mapping[str, Bool[np.ndarray, " n"]], labels: Int[np.ndarray, " n"]
) -> dict[int, str]:
    """Choose the global factor of each class that loses more without it than without any concept, by class index.

    Args:
        reliance: by class index, the largest drop that a concept causes.
        flipped: by name of the factor (n,), images that are misclassified without it.
        labels: (n,) class index of each image.
    """
    chosen = {}
    for label, drop in reliance.items():
        drops = {kind: float(images[labels == label].mean()) for kind, images in flipped.items()}
        kind = max(drops, key=lambda name: drops[name])
        if drops[kind] > drop:
            chosen[label] = kind
    return chosen


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
