"""Findings at depth as audit.json holds them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Int

from salve_audit.reliance.depth.assess import ConceptFinding, DepthFindings, Share
from salve_audit.reliance.depth.whole import FRAME
from salve_audit.reliance.survival import wilson
from salve_audit.results import ClassDepth, Concept, ConceptEffect, OcclusionCheck

LEAST_CORRECT = 6  # pictures: fewer cannot turn wrong in any number that says something
MOST_PIECES = 3  # that the search takes out of a picture
DECIMALS = 5  # of a concept's signature
AREAS = {"frame": 1 - (1 - 2 / FRAME) ** 2, "overall colour": 1.0}  # of a picture
HALF = 0.5
_NO_CHECKS: Mapping[int, OcclusionCheck] = MappingProxyType({})


def describe_classes(
    findings: DepthFindings, nulls: Mapping[int, Share], checks: Mapping[int, OcclusionCheck] = _NO_CHECKS
) -> dict[int, ClassDepth]:
    """By class index; `nulls` as `flip_at_random`, `checks` as `check_by_occlusion` gives them."""
    found = {}
    for one in findings.classes:
        low, high = widen_interval(one.reliance, one.n)
        found[one.label] = ClassDepth(
            n=one.n,
            n_correct=one.n_correct,
            reliance=one.reliance.value,
            low=low,
            high=high,
            concept=one.concept,
            redundancy=one.redundancy,
            redundancy_low=one.redundancy_low,
            redundancy_high=one.redundancy_high,
            redundancy_limit=MOST_PIECES,
            null=None,
            thin=one.thin or one.n_correct < LEAST_CORRECT,
            check=checks.get(one.label),
        )
    return set_nulls(found, nulls)


def set_nulls(found: Mapping[int, ClassDepth], nulls: Mapping[int, Share]) -> dict[int, ClassDepth]:
    """The same with these nulls; classes without one keep what they have."""

    def changed(one: ClassDepth, null: Share) -> ClassDepth:
        return dataclasses.replace(one, null=null.value, null_low=null.low, null_high=null.high)

    return {label: changed(one, nulls[label]) if label in nulls else one for label, one in found.items()}


def describe_concepts(findings: DepthFindings, layer: str, classes: Sequence[str]) -> tuple[Concept, ...]:
    """All concepts; `classes` are the names in output order."""
    sizes = {one.label: one.n for one in findings.classes}
    return tuple(
        Concept(
            index=index,
            layer=layer,
            class_name=classes[one.label],
            latents=one.channels,
            mask_share=one.mask_share,
            n_images=len(set(one.pictures.tolist())),
            effect=_effects(one, classes, sizes),
            trait=tuple(round(value, DECIMALS) for value in one.centre.tolist()),
        )
        for index, one in enumerate(findings.concepts)
    )


def _effects(one: ConceptFinding, classes: Sequence[str], sizes: Mapping[int, int]) -> tuple[ConceptEffect, ...]:
    return tuple(
        ConceptEffect(classes[label], share.value, *widen_interval(share, sizes[label]))
        for label, share in one.effect.items()
    )


def add_wholes(
    found: Mapping[int, ClassDepth],
    concepts: tuple[Concept, ...],
    turned: Mapping[str, Bool[np.ndarray, " n"]],
    labels: Int[np.ndarray, " n"],
    classes: Sequence[str],
) -> tuple[dict[int, ClassDepth], tuple[Concept, ...]]:
    """The same with what is no place: a class that loses more without it rests on that.

    The null of such a class is still that of places: see `set_nulls`.

    Args:
        found: by class index.
        concepts: of places.
        turned: of `flip_without_whole`.
        labels: class index of each picture.
        classes: names in output order.
    """
    better, more = dict(found), list(concepts)
    for label, kind in choose_wholes({label: one.reliance for label, one in found.items()}, turned, labels).items():
        one, lost = found[label], turned[kind][labels == label]
        drop = float(lost.mean())
        low, high = wilson(int(lost.sum()), len(lost))
        effect = (ConceptEffect(classes[label], drop, low, high),)
        changed = dataclasses.replace(one, reliance=drop, low=low, high=high, concept=len(more))
        better[label] = _without_at_most_one(changed)
        more.append(Concept(len(more), "picture", classes[label], (), AREAS[kind], one.n, effect, kind))
    return better, tuple(more)


def choose_wholes(
    reliance: Mapping[int, float], turned: Mapping[str, Bool[np.ndarray, " n"]], labels: Int[np.ndarray, " n"]
) -> dict[int, str]:
    """The kind of whole, by class that loses more without it than its reliance on a concept of places."""
    chosen = {}
    for label, known in reliance.items():
        drops = {kind: float(every[labels == label].mean()) for kind, every in turned.items()}
        kind = max(drops, key=lambda name: drops[name])
        if drops[kind] > known:
            chosen[label] = kind
    return chosen


def _without_at_most_one(one: ClassDepth) -> ClassDepth:
    """Its redundancy is 1 or less where the one thing it rests on most leaves half of its pictures or fewer right."""
    share = one.n_correct / one.n

    def capped(count: int | None, drop: float) -> int | None:
        if share - drop > HALF:
            return count
        return 1 if count is None else min(count, 1)

    return dataclasses.replace(
        one,
        redundancy=capped(one.redundancy, one.reliance),
        redundancy_low=capped(one.redundancy_low, one.high),
        redundancy_high=capped(one.redundancy_high, one.low),
    )


def widen_interval(share: Share, n: int) -> tuple[float, float]:
    """The bootstrap interval joined with Wilson's: where no picture, or every one, turned, draws do not vary."""
    low, high = wilson(round(share.value * n), n)
    if math.isnan(share.low):
        return low, high
    return min(low, share.low), max(high, share.high)
