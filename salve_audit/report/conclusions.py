"""What the numbers of an audit allow to conclude on each class: its group, its rank, and what could have been found.

Facts only; `sentences` puts them into words. Classes are ranked by image reliance less chance where it was measured
and by their α̂ flip median where it was not.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from salve_audit.results import AuditResult, ClassReliance, Concept, ImageReliance
from salve_audit.results.intervals import wilson_interval

HALF = 0.5  # of a class's images: losing more with one thing is depending on it, unless the policy has another limit
THREE_QUARTERS = 0.75  # of the covered images


class Group(enum.Enum):
    """What is known of a class, the most alarming first."""

    DEPENDS = "depends"
    UNDECIDED = "undecided"
    ACCEPTED = "accepted"  # depends on one thing, which a review says is the object itself
    NOT_FOUND = "not-found"
    NOT_EXAMINED = "not-examined"
    TOO_FEW = "too-few"


class Doubt(enum.Enum):
    """Why a class that seems to depend on one thing, or not to, stays undecided."""

    INTERVAL = "interval"
    CHANCE = "chance"
    OCCLUSION = "occlusion"


JUDGED = (Group.DEPENDS, Group.UNDECIDED, Group.ACCEPTED, Group.NOT_FOUND)
ACCEPTED, SHORTCUT, UNREVIEWED = "accepted", "shortcut", "unreviewed"
_NO_REVIEW: Mapping[int, str] = MappingProxyType({})


@dataclass(frozen=True)
class Conclusion:
    """What is concluded on one class.

    Attributes:
        excess: image reliance less chance; None: not measured.
        doubt: why it is undecided.
        concept: the thing that it depends on most, where that is an evidence region or has a record of its own.
        second: the next strongest concept.
        outcome: of the policy, "" without one.
        review: what a person said of the concept, of a class that depends on one: "accepted", "shortcut", "unclear"
            or "unreviewed"; "": it depends on none.
    """

    info: ClassReliance
    group: Group
    excess: float | None
    doubt: Doubt | None
    concept: Concept | None
    second: Concept | None
    outcome: str
    review: str

    @property
    def name(self) -> str:
        """The class's label."""
        return self.info.name

    @property
    def reliance(self) -> ImageReliance | None:
        """The record of its image reliance."""
        return self.info.image_reliance

    @property
    def is_beyond_chance(self) -> bool:
        """True where image reliance was measured and is larger than chance explains."""
        return self.reliance is not None and self.reliance.reliance > 0 and not self.reliance.is_by_chance


class Conclusions:
    """The conclusions on all classes, in the order in which a reader should meet them.

    Args:
        result: the audit.
        reviewed: what a person said of concepts, by index.
    """

    def __init__(self, result: AuditResult, reviewed: Mapping[int, str] = _NO_REVIEW) -> None:
        self.result, self.reviewed = result, reviewed
        self.threshold = reliance_limit(result) or HALF
        outcomes = result.verdict.outcomes
        own: dict[str, list[Concept]] = {}
        for concept in result.concepts:
            own.setdefault(concept.class_name, []).append(concept)
        self.ranked = tuple(
            sorted((self._conclude(c, own.get(c.name, []), outcomes) for c in result.classes), key=_rank)
        )

    def _conclude(self, info: ClassReliance, own: Sequence[Concept], outcomes: Mapping[str, str]) -> Conclusion:
        group, doubt = _group(info, self.result.concepts, self.threshold)
        reliance, first = info.image_reliance, None
        strongest = sorted(own, key=lambda concept: (-own_drop(concept), concept.index))
        if reliance is not None and reliance.concept is not None:
            first = next((concept for concept in strongest if concept.index == reliance.concept), None)
        second = next((concept for concept in strongest if concept is not first and own_drop(concept) > 0), None)
        excess = None if reliance is None else reliance.reliance - (reliance.chance or 0.0)
        review = ""
        if group is Group.DEPENDS:
            review = UNREVIEWED if first is None else self.reviewed.get(first.index, UNREVIEWED)
            group = Group.ACCEPTED if review == ACCEPTED else group
        return Conclusion(info, group, excess, doubt, first, second, outcomes.get(info.name, ""), review)

    @cached_property
    def is_measured(self) -> bool:
        """True where the image reliance of any class was measured."""
        return any(each.reliance is not None for each in self.ranked)

    def of(self, *groups: Group) -> tuple[Conclusion, ...]:
        """The classes of these groups, in order."""
        return tuple(each for each in self.ranked if each.group in groups)

    @property
    def dependent(self) -> tuple[Conclusion, ...]:
        """The classes that depend on one thing, whatever a review says of it."""
        return self.of(Group.DEPENDS, Group.ACCEPTED)

    @property
    def n_judged(self) -> int:
        """Classes with enough images for a judgement on image reliance."""
        return len(self.of(*JUDGED))

    @cached_property
    def detectable(self) -> float | None:
        """The smallest loss that would have been told from chance in every class that was judged; None: in none."""
        judged = self.of(*JUDGED)
        smallest = [smallest_detectable(each.reliance) for each in judged if each.reliance is not None]
        known = [share for share in smallest if share is not None]
        return max(known, default=None) if len(known) == len(smallest) else None


def reliance_limit(result: AuditResult) -> float | None:
    """The policy's limit on image reliance where it has exactly one."""
    limits = {rule.limit for rule in result.verdict.rules if rule.rule.startswith("image reliance at most")}
    return limits.pop() if len(limits) == 1 else None


def _group(info: ClassReliance, concepts: Sequence[Concept], threshold: float) -> tuple[Group, Doubt | None]:
    reliance = info.image_reliance
    if reliance is None:
        return (Group.TOO_FEW if info.n == 0 else Group.NOT_EXAMINED), None
    if reliance.thin:
        return Group.TOO_FEW, None
    contradicted = is_contradicted(reliance, concepts)
    if reliance.low > threshold:
        if reliance.is_by_chance:
            return Group.UNDECIDED, Doubt.CHANCE
        return (Group.UNDECIDED, Doubt.OCCLUSION) if contradicted else (Group.DEPENDS, None)
    if reliance.high > threshold:
        return Group.UNDECIDED, Doubt.INTERVAL
    return (Group.UNDECIDED, Doubt.OCCLUSION) if contradicted else (Group.NOT_FOUND, None)


def _rank(conclusion: Conclusion) -> tuple[float, ...]:
    flip = conclusion.info.alpha_hat.flip
    median = math.inf if flip.median is None else flip.median
    low = math.inf if flip.low is None else flip.low
    place = list(Group).index(conclusion.group)
    excess = 0.0 if conclusion.excess is None else -conclusion.excess
    return (place, excess, conclusion.info.n_correct == 0, median, low, conclusion.info.index)


def is_contradicted(reliance: ImageReliance, concepts: Sequence[Concept]) -> bool:
    """Tells where occlusion of the same regions contradicts the image reliance of a class.

    It contradicts where most images do not agree and three quarters are beyond the interval (few are covered), where
    less is lost under occlusion, intervals disjoint, and where only occlusion makes the class depend on these regions,
    intervals on either side of one half. Losing somewhat more under it is no contradiction: a box is a thing of its own
    in the image, and classes that are known to depend on nothing lose up to 0.4 of their accuracy with it. Regions do
    not decide on a class that depends on a global factor (border, colour).
    """
    check = reliance.check
    if check is None or reliance.concept not in (None, check.concept):
        return False
    own = next(iter(concepts[check.concept].effect), None)
    less = own is not None and check.occluded_high < own.low
    depends = reliance.high <= HALF < check.occluded_low
    return (check.agreement <= HALF and check.high < THREE_QUARTERS) or less or depends


def own_drop(concept: Concept) -> float:
    """The drop of the concept's own class without it."""
    return next((effect.drop for effect in concept.effect if effect.class_name == concept.class_name), 0.0)


def smallest_detectable(reliance: ImageReliance) -> float | None:
    """The smallest share of lost images that would not have been put down to chance at this number of images."""
    if reliance.n == 0:
        return None
    chance, high = reliance.chance or 0.0, reliance.chance_high or reliance.chance or 0.0
    for lost in range(1, reliance.n + 1):
        share = lost / reliance.n
        low = wilson_interval(share, reliance.n)[0]
        if share - chance > math.hypot(share - low, high - chance):
            return share
    return None


def images_to_decide(reliance: ImageReliance, threshold: float) -> int | None:
    """About how many images would bring the interval to one side of the threshold; None: no number would."""
    distance = abs(reliance.reliance - threshold)
    if distance == 0 or reliance.n == 0:
        return None
    width = max(reliance.reliance - reliance.low, reliance.high - reliance.reliance)
    return math.ceil(reliance.n * (width / distance) ** 2)
