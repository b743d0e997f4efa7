"""Concepts taken out inside of the network: what latents and projections carry of them, and whom it costs."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.report.numbers import count, percent, percent_interval, plural, points, strength
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.results import Concept, ConceptEffect, ConceptRemoval

MOST_OF_IT = 0.5  # of the drop in the picture, for the latents to count as carrying it
LITTLE_MORE = 0.25  # accuracy beyond that drop: more is something else that the class rests on as well
SPARED = 0.1  # mean drop of the others up to which they do
_NO_LATENTS = "no latents of the layer lose more with the concept's pieces than with others"
_NO_OTHERS = "no other class was examined"
_STAYS = "most of its pictures stay right at strength 1"
_HEADS = (
    "Taken out",
    "Lost in the picture",
    "Lost without it",
    "At random",
    "Strength",
    "Others, points",
)


def build_removals(concepts: Sequence[Concept], limit: int) -> Table | None:
    """A row for each concept and layer, those first whose class loses most; None: nothing was tried."""
    found = _all(concepts)
    if not found:
        return None
    found.sort(key=lambda pair: (-pair[1].drop, pair[0].index))
    first = [Column("Concept", "name"), Column("Class", "text"), Column("Layer", "text")]
    columns = [*first, *map(Column, _HEADS), Column("Hit most", "text")]
    rows = [_row(concept, one) for concept, one in found]
    return make_table("Concepts taken out of a layer; with 95 % intervals", columns, rows, limit, "concepts[].removals")


def conclude_removals(concepts: Sequence[Concept]) -> str:
    """How often latents, and projections, carry a concept, and whether others go with it."""
    found = _all(concepts)
    latents = [pair for pair in found if not pair[1].rank]
    projections = [pair for pair in found if pair[1].rank]
    return " ".join(filter(None, [_conclude(latents, "latents"), _conclude(projections, "a projection")]))


def _conclude(found: Sequence[tuple[Concept, ConceptRemoval]], what: str) -> str:
    if not found:
        return ""
    carried = [(concept, one) for concept, one in found if _is_carried(concept, one)]
    n, n_carried = (len({concept.index for concept, _ in pairs}) for pairs in (found, carried))
    text = f"Of {plural(n, 'concept')}, {count(n_carried)} {'has' if n_carried == 1 else 'have'} {what}"
    text += " without which about as much is lost as without the pieces"
    if not carried:
        return f"{text}."
    spared = len({concept.index for concept, one in carried if one.others is None or one.others <= SPARED})
    most = f"{100 * SPARED:.0f} points of the other classes' accuracy"
    return f"{text}, {count(spared)} of them at no more than {most} on average."


def _all(concepts: Sequence[Concept]) -> list[tuple[Concept, ConceptRemoval]]:
    return [(concept, one) for concept in concepts for one in concept.removals]


def _is_carried(concept: Concept, one: ConceptRemoval) -> bool:
    """Without the latents about as much is lost as without the pieces, and more than by chance."""
    lost = _in_picture(concept)
    return bool(one.latents or one.rank) and MOST_OF_IT * lost <= one.drop <= lost + LITTLE_MORE and one.low > one.null


def _in_picture(concept: Concept) -> float:
    own = next((one for one in concept.effect if one.class_name == concept.class_name), None)
    return own.drop if own else 0.0


def _hit_most(concept: Concept, one: ConceptRemoval) -> ConceptEffect | None:
    others = [each for each in one.effect if each.class_name != concept.class_name]
    return max(others, key=lambda each: each.drop, default=None)


def _row(concept: Concept, one: ConceptRemoval) -> list[Value]:
    first: list[Value] = [str(concept.index), concept.class_name, one.layer]
    if not one.latents and not one.rank:
        none = Missing(_NO_LATENTS)
        return [*first, _taken(one), percent(_in_picture(concept)), none, none, none, none, none]
    hit = _hit_most(concept, one)
    return [
        *first,
        _taken(one),
        percent(_in_picture(concept)),
        f"{percent(one.drop)} ({percent_interval(one.low, one.high)})",
        percent(one.null),
        strength(one.strength) if one.strength is not None else Missing(_STAYS),
        _others(one),
        f"{hit.class_name} {points(-hit.drop)}" if hit is not None and hit.drop > 0 else "–",
    ]


def _taken(one: ConceptRemoval) -> str:
    if one.rank:
        return plural(one.rank, "direction")
    return f"{count(len(one.latents))} of {plural(one.n_latents, 'latent')}"


def _others(one: ConceptRemoval) -> Value:
    if one.others is None or one.others_low is None or one.others_high is None:
        return Missing(_NO_OTHERS)
    return f"{points(-one.others)} ({points(-one.others_high)} to {points(-one.others_low)})"
