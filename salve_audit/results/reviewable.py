"""What a person can say a word on: the concepts and families of global factors that classes depend on.

An entry of the review file begins with what the audit knows of the thing (`entry_head`); the person adds the rest. The
command line and the report's form write the same entries.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from salve_audit.results.audit import AuditResult
from salve_audit.results.classes import ClassReliance
from salve_audit.results.evidence import Concept, FactorEffect, ImageReliance
from salve_audit.results.seeing import Thumbnail

REGION, OBJECT = "region", "object"
_UNSEEN = ("Cc", "Cf", "Co", "Zl", "Zp")  # categories of characters
LEAST_DROP = 0.1  # low end of the interval from which a dependence is put before a person


@dataclass(frozen=True)
class Reviewable:
    """One thing that a class depends on.

    Attributes:
        class_name: the class.
        kind: ``region``, or the family of global factors.
        name: a word for it: the concept's number, or the factor of the family that costs most.
        drop, low, high: of the class's accuracy without it.
        concept: its record; None: a global factor without one.
    """

    class_name: str
    kind: str
    name: str
    drop: float
    low: float
    high: float
    concept: Concept | None

    @property
    def fingerprint(self) -> str:
        """Of a concept; empty for a global factor, which class and kind say all of."""
        return fingerprint(self.concept) if self.kind == REGION and self.concept is not None else ""


def fingerprint(concept: Concept) -> str:
    """The identity of a concept over audits of one model: a hash of its class, layer and strongest channels."""
    text = f"{concept.class_name}\n{concept.layer}\n{','.join(map(str, concept.channels))}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def list_reviewable(result: AuditResult, least: float = LEAST_DROP) -> tuple[Reviewable, ...]:
    """What classes depend on beyond chance, with the low end of the interval above `least`; the strongest first."""
    things = [thing for info in result.classes for thing in _of_class(result, info) if thing.low > least]
    return tuple(sorted(things, key=lambda thing: (-thing.drop, thing.class_name, thing.kind, thing.name)))


def is_beyond_control(factor: FactorEffect) -> bool:
    """True where a global factor costs its class more than it costs the others, or that was not measured."""
    if factor.chance is None:
        return True
    return factor.excess_low > 0 if factor.excess_low is not None else factor.low > factor.chance


def is_concept_beyond_chance(concept: Concept, reliance: ImageReliance) -> bool:
    """False where chance explains the class's reliance on this concept; of weaker ones chance is not known."""
    return not (reliance.kind == REGION and reliance.concept == concept.index and reliance.is_by_chance)


def _of_class(result: AuditResult, info: ClassReliance) -> Iterator[Reviewable]:
    reliance = info.image_reliance
    if reliance is None:
        return
    own = [concept for concept in result.concepts if concept.class_name == info.name]
    for concept in own:
        if concept.kind == REGION and is_concept_beyond_chance(concept, reliance):
            for effect in concept.effect:
                if effect.class_name == info.name:
                    name = f"concept {concept.index}"
                    yield Reviewable(info.name, REGION, name, effect.drop, effect.low, effect.high, concept)
    strongest: dict[str, FactorEffect] = {}
    for factor in reliance.factors:
        family = factor.kind or factor.name
        if family == OBJECT:
            continue  # by the data's own word it is one
        if is_beyond_control(factor) and (family not in strongest or factor.removed > strongest[family].removed):
            strongest[family] = factor
    for family, factor in strongest.items():
        shown = next((concept for concept in own if concept.kind == family), None)
        yield Reviewable(info.name, family, factor.name, factor.removed, factor.low, factor.high, shown)


def entry_head(thing: Reviewable, crop: Thumbnail | None) -> str:
    """The first lines of the thing's entry in a review file, up to what a person says of it."""
    lines = ["[[entry]]", f"class = {quote(thing.class_name)}", f"kind = {quote(thing.kind)}"]
    if thing.fingerprint:
        lines.append(f"fingerprint = {quote(thing.fingerprint)}")
    look = None if thing.concept is None or thing.kind != REGION else thing.concept.look
    if look is not None:
        lines += [f"look = {quote(look.values)}", f"places = {quote(look.places)}"]
    if crop is not None:
        lines.append(f"crop = {quote(data_url(crop))}")
    return "\n".join(lines) + "\n"


def data_url(image: Thumbnail) -> str:
    """The image as a page or an editor shows it."""
    return f"data:image/jpeg;base64,{image.jpeg}"


def quote(text: str) -> str:
    """A TOML basic string, in which nothing is hidden: marks of direction and the like are written as numbers.

    Half of a surrogate pair, which is no character, becomes a question mark.
    """
    whole = json.dumps(text.encode("utf-8", "replace").decode("utf-8"), ensure_ascii=False)
    return "".join(f"\\U{ord(c):08x}" if unicodedata.category(c) in _UNSEEN else c for c in whole)
