"""Concepts removed inside the network by their projections: how much of each they carry, and which classes it costs."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.report.language import plural, say
from salve_audit.report.numbers import count, percent, percent_interval, points, strength
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.results import Concept, ConceptEffect, ConceptRemoval

MOST_OF_IT = 0.5  # of the drop in the image, for the projection to count as carrying it
LITTLE_MORE = 0.25  # accuracy beyond that drop: more is something else that the class depends on as well
SPARED = 0.1  # mean drop of the others up to which they are spared
_NO_OTHERS = "no other class was examined"
_STAYS = "most of its images stay correct at strength 1"
_HEADS = (
    "Directions removed",
    "Drop, regions removed",
    "Drop, projection removed",
    "At random",
    "Strength",
    "Others, points",
)


def build_removals(concepts: Sequence[Concept], limit: int) -> Table | None:
    """A row for each concept that was removed, those first whose class loses most; None: nothing was tried."""
    pairs = _all(concepts)
    if not pairs:
        return None
    pairs.sort(key=lambda pair: (-pair[1].drop, pair[0].index))
    first = [Column(say("Concept"), "name"), Column(say("Class"), "text"), Column(say("Layer"), "text")]
    columns = [*first, *(Column(say(head)) for head in _HEADS), Column(say("Hit most"), "text")]
    rows = [_row(concept, removal) for concept, removal in pairs]
    return make_table(
        say("Concepts removed from a layer; with 95 % intervals"), columns, rows, limit, "concepts[].removal"
    )


def conclude_removals(concepts: Sequence[Concept]) -> str:
    """A sentence on how many concepts a projection carries, and whether other classes suffer with them."""
    pairs = _all(concepts)
    if not pairs:
        return ""
    carried = [removal for concept, removal in pairs if _is_carried(concept, removal)]
    text = say(
        "Of {pairs}, {carried} {x} ",
        pairs=plural(len(pairs), "concept"),
        carried=count(len(carried)),
        x=say("has") if len(carried) == 1 else say("have"),
    )
    text += say("a projection without which about as much is lost as without the evidence regions")
    if not carried:
        return f"{text}."
    spared = sum(removal.others is None or removal.others <= SPARED for removal in carried)
    most = say("{x} points of the other classes' accuracy", x=f"{100 * SPARED:.0f}")
    return say("{x}, {spared} of them at no more than {most} on average.", x=text, spared=count(spared), most=most)


def _all(concepts: Sequence[Concept]) -> list[tuple[Concept, ConceptRemoval]]:
    return [(concept, concept.removal) for concept in concepts if concept.removal is not None]


def _is_carried(concept: Concept, removal: ConceptRemoval) -> bool:
    """True where the projection loses about as much as inpainting the regions does, and more than chance."""
    lost = _in_image(concept)
    return MOST_OF_IT * lost <= removal.drop <= lost + LITTLE_MORE and removal.low > removal.chance


def _in_image(concept: Concept) -> float:
    own = next((effect for effect in concept.effect if effect.class_name == concept.class_name), None)
    return own.drop if own else 0.0


def _hit_most(concept: Concept, removal: ConceptRemoval) -> ConceptEffect | None:
    other_effects = [effect for effect in removal.effect if effect.class_name != concept.class_name]
    return max(other_effects, key=lambda effect: effect.drop, default=None)


def _row(concept: Concept, removal: ConceptRemoval) -> list[Value]:
    hit = _hit_most(concept, removal)
    return [
        str(concept.index),
        concept.class_name,
        removal.layer,
        count(removal.rank),
        percent(_in_image(concept)),
        f"{percent(removal.drop)} ({percent_interval(removal.low, removal.high)})",
        percent(removal.chance),
        strength(removal.strength) if removal.strength is not None else Missing(_STAYS),
        _others(removal),
        f"{hit.class_name} {points(-hit.drop)}" if hit is not None and hit.drop > 0 else "–",
    ]


def _others(removal: ConceptRemoval) -> Value:
    if removal.others is None or removal.others_low is None or removal.others_high is None:
        return Missing(_NO_OTHERS)
    return say(
        "{x} ({x2} to {x3})", x=points(-removal.others), x2=points(-removal.others_high), x3=points(-removal.others_low)
    )
