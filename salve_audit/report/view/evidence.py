"""Image reliance in detail: the controls of every class, and in the appendix the concepts behind them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from salve_audit.report.conclusions import own_drop
from salve_audit.report.language import plural, say
from salve_audit.report.numbers import count, percent, points
from salve_audit.report.tables import Chips, Column, Missing, Table, Value, make_table
from salve_audit.report.view.cells import NOT_MEASURED, reliance_cell
from salve_audit.report.view.evidence_controls import alike_cell, chance_cell, check_cell, contradictions
from salve_audit.report.view.order import ranked
from salve_audit.report.view.page import Medium, Section
from salve_audit.report.view.removals import build_removals, conclude_removals
from salve_audit.report.view.thumbnails import Strip, Tile, show
from salve_audit.results import AuditResult, ClassReliance, Concept, ConceptEffect, EvidenceInfo, ImageReliance

STRIPS = 40  # concepts with images in the appendix
_NO_CONCEPT = "no concept lowers the accuracy of this class"
IMAGE_FLAG_MEANINGS = {
    "not beyond chance": "image reliance is no larger than what regions of the same shape at random places explain",
    "occlusion disagrees": "occluding the same evidence regions contradicts the image reliance",
}


def controls_table(result: AuditResult, limit: int) -> Table | None:
    """Every class with its controls; None where nothing was measured."""
    order = [info for info in ranked(result) if info.image_reliance is not None]
    if not order:
        return None
    heads = ("n", "Image reliance, %", "By chance, %", "Occluded instead, %", "Agree on", "Redundancy", "Depends on")
    columns = [Column(say("Class"), "name"), *(Column(say(head)) for head in heads), Column(say("Flags"), "text")]
    rows = [
        _control_row(info, info.image_reliance, result.concepts) for info in order if info.image_reliance is not None
    ]
    return make_table(
        say("Image reliance and its controls, with 95 % intervals"), columns, rows, limit, "classes[].image_reliance"
    )


def _control_row(info: ClassReliance, reliance: ImageReliance, concepts: Sequence[Concept]) -> list[Value]:
    what: Value = Missing(_NO_CONCEPT)
    if reliance.kind is not None:
        region = reliance.kind == "region" and reliance.concept is not None
        what = say("concept {index}", index=reliance.concept) if region else say(_factor_of(reliance, concepts))
    return [
        info.name,
        count(reliance.n),
        reliance_cell(reliance),
        chance_cell(reliance),
        check_cell(reliance),
        alike_cell(reliance),
        redundancy_cell(reliance),
        what,
        Chips(_flags(info, concepts)),
    ]


def _factor_of(reliance: ImageReliance, concepts: Sequence[Concept]) -> str:
    named = next((concept.factor for concept in concepts if concept.index == reliance.concept), "")
    return named or reliance.kind or ""


def build_concepts(result: AuditResult, medium: Medium, in_cards: Collection[int] = ()) -> Section | None:
    """Appendix: every concept, and what removing it inside the network does; None where nothing was measured.

    Args:
        in_cards: concepts whose images stand in the cards, and not here again.
    """
    info = result.evidence
    if info is None or info.why_absent:
        return None
    parts = {
        "how": describe_method(info),
        "strips": _strips([each for each in result.concepts if each.index not in in_cards], medium),
        "concepts": _concept_table(result.concepts, medium.table_rows) if result.concepts else None,
        "removals": build_removals(result.concepts, medium.table_rows),
        "inside": conclude_removals(result.concepts),
        "not_removed": info.not_removed,
    }
    return Section("concepts", say("Concepts found in the images"), "concepts.html.j2", parts)


def describe_method(info: EvidenceInfo) -> str:
    """How image reliance was measured, on how many images."""
    left = ""
    if info.n_classes_left_out:
        left = " " + say("Left out: {n}.", n=plural(info.n_classes_left_out, "class", "classes"))
    share = ""
    if info.share_of_audit is not None:
        share = say(" ({share} of the audit images)", share=percent(info.share_of_audit))
    of = say(", {n} in all{share}", n=count(info.n_images), share=share) if info.n_images else ""
    measured = say(
        "Measured on at most {n} per class{of}, with {passes} passes of an image through the network; evidence regions "
        "are distinguished by their activations at {layer}.",
        n=plural(info.n_per_class, "image"),
        of=of,
        passes=count(info.n_passes),
        layer=info.layer,
    )
    return f"{info.method} {measured}{left}"


def _flags(info: ClassReliance, concepts: Sequence[Concept]) -> tuple[str, ...]:
    """Names of the reasons that make a row less trustworthy."""
    assert info.image_reliance is not None, "measured classes have rows"
    flags = {
        "thin": info.image_reliance.thin,
        "not beyond chance": info.image_reliance.is_by_chance,
        "occlusion disagrees": bool(contradictions([info], concepts)),
    }
    return tuple(flag for flag, there in flags.items() if there)


def _strips(concepts: Sequence[Concept], medium: Medium) -> list[Strip]:
    """Images of the concepts that have any, those first that their class depends on most."""
    pictured = [concept for concept in concepts if concept.images]
    ordered = sorted(pictured, key=lambda concept: (-own_drop(concept), concept.index))
    return [_strip(concept, medium) for concept in ordered[: min(medium.strips, STRIPS)]]


def _strip(concept: Concept, medium: Medium) -> Strip:
    tiles = []
    for image in concept.images[: medium.tiles]:
        words = {"class_name": concept.class_name, "index": concept.index}
        outlined = show(image.outlined, say("An image of {class_name} with concept {index} outlined", **words))
        without = show(image.without, say("The same image with concept {index} removed", **words))
        heat = show(image.heat, say("Where the evidence for {class_name} lies in it", **words)) if image.heat else None
        answer = say("the prediction flips") if image.flipped else say("the prediction stays")
        tiles.append(Tile(tuple(filter(None, (outlined, heat, without))), (answer,)))
    kind = "" if concept.kind == "region" else f", {say(concept.kind)}"
    note = say("{class_name}{kind}: {points} points without it", class_name=concept.class_name, kind=kind,
               points=points(-own_drop(concept)))  # fmt: skip
    return Strip(say("Concept {index}", index=concept.index), note, tuple(tiles), "", f"concept-{concept.index}")


def redundancy_cell(reliance: ImageReliance | None) -> Value:
    """The number of evidence regions to remove, with its interval where it is not a single number."""
    if reliance is None:
        return Missing(NOT_MEASURED)
    low, high = (_bound(value, reliance) for value in (reliance.redundancy_low, reliance.redundancy_high))
    value = _bound(reliance.redundancy, reliance)
    return value if low == high == value else f"{value} ({low} to {high})"


def _bound(value: int | None, reliance: ImageReliance) -> str:
    return f"> {reliance.redundancy_limit}" if value is None else str(value)


def _concept_table(concepts: Sequence[Concept], limit: int) -> Table:
    heads = ("Share of the image", "Images", "Drop of its class, points", "95 % interval, points")
    columns = [
        Column(say("Concept"), "name"),
        Column(say("Class"), "wrap"),
        Column(say("Kind"), "text"),
        Column(say("Layer"), "text"),
        *(Column(say(head)) for head in heads),
    ]
    ordered = sorted(concepts, key=lambda concept: (-own_drop(concept), concept.index))
    rows = [_concept_row(concept) for concept in ordered]
    return make_table(say("Concepts by the drop of their class"), columns, rows, limit, "concepts[]")


def _own_effect(concept: Concept) -> ConceptEffect | None:
    return next((each for each in concept.effect if each.class_name == concept.class_name), None)


def _concept_row(concept: Concept) -> list[Value]:
    own = _own_effect(concept)
    return [
        str(concept.index),
        concept.class_name,
        say(concept.kind),
        concept.layer,
        percent(concept.mask_share),
        count(concept.n_images),
        points(-own.drop) if own else Missing(_NO_CONCEPT),
        f"{points(-own.high)} to {points(-own.low)}" if own else Missing(_NO_CONCEPT),
    ]
