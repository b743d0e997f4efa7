"""Section on image reliance: image reliance and redundancy of the classes, and the concepts behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from salve_audit.report.numbers import count, names, percent, percent_interval, plural, points
from salve_audit.report.tables import Chips, Column, Missing, Table, Value, make_table
from salve_audit.report.view.evidence_controls import alike_cell, chance_cell, check_cell, contradictions, say_checks
from salve_audit.report.view.page import Medium, Section
from salve_audit.report.view.removals import build_removals, conclude_removals
from salve_audit.report.view.thumbnails import Strip, Tile, show
from salve_audit.results import AuditResult, ClassReliance, Concept, ConceptEffect, EvidenceInfo, ImageReliance

HALF = 0.5  # of the accuracy: a larger drop is named in the sentence
NOT_MEASURED = "image reliance was not measured for this class"
_NO_CONCEPT = "no concept lowers the accuracy of this class"


IMAGE_FLAG_MEANINGS = {
    "not beyond chance": "image reliance is no larger than what regions of the same shape at random places explain",
    "occlusion disagrees": "occluding the same evidence regions contradicts the image reliance",
}


def build_evidence(result: AuditResult, medium: Medium) -> Section | None:
    """The section; None where an earlier version wrote the audit."""
    if result.evidence is None:
        return None
    parts: dict[str, object] = {"absent": result.evidence.why_absent, "evidence": result.evidence}
    if not result.evidence.why_absent:
        order = most_reliant_first(result.classes)
        parts |= {
            "sentence": _sentence(order),
            "how": _how(result.evidence),
            "check": say_checks(order, result.concepts),
            "table": _class_table(order, result.concepts, medium.table_rows),
            "strips": _strips(result.concepts, medium),
            "concepts": _concept_table(result.concepts, medium.table_rows) if result.concepts else None,
            "removals": build_removals(result.concepts, medium.table_rows),
            "inside": conclude_removals(result.concepts),
            "not_removed": result.evidence.not_removed,
        }
    return Section("image-reliance", "Image reliance: what the classes depend on", "evidence.html.j2", parts)


def most_reliant_first(classes: Sequence[ClassReliance]) -> tuple[ClassReliance, ...]:
    """Classes by falling image reliance, those without it last."""

    def key(class_info: ClassReliance) -> tuple[float, int]:
        return (
            math.inf if class_info.image_reliance is None else -class_info.image_reliance.reliance,
            class_info.index,
        )

    return tuple(sorted(classes, key=key))


def _sentence(order: Sequence[ClassReliance]) -> str:
    measured = _judgeable(order)
    if not measured:
        return "No class has enough images for a judgement."
    sure = depends_on_one_thing(order)
    held = [name for name, reliance in measured if reliance.high <= HALF]
    said = []
    if sure:
        said.append(
            f"Without one concept, more than half of the images of {names(sure)} are misclassified, interval included"
        )
    if held:
        said.append(
            f"no single concept was found without which more than half of the images of {names(held)} are misclassified"
        )
    rest = len(measured) - len(sure) - len(held)
    if rest:
        said.append(f"for {plural(rest, 'class', 'classes')} the images do not decide it")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def _how(info: EvidenceInfo) -> str:
    left = ""
    if info.n_classes_left_out:
        n = info.n_classes_left_out
        why = f": {info.why_left_out}" if info.why_left_out else ""
        left = (
            f" {plural(n, 'less fragile class', 'less fragile classes')} {'was' if n == 1 else 'were'} left out{why}."
        )
    share = "" if info.share_of_audit is None else f" ({percent(info.share_of_audit)} of the audit images)"
    of = f", {count(info.n_images)} in all{share}" if info.n_images else ""
    return (
        f"{info.method} Measured on at most {plural(info.n_per_class, 'image')} per class{of}, with "
        f"{count(info.n_passes)} passes of an image through the network; evidence regions are distinguished by "
        "their activations at "
        f"{names([info.layer])}.{left}"
    )


def _flags(class_info: ClassReliance, concepts: Sequence[Concept]) -> tuple[str, ...]:
    """Names of the reasons that make a row less trustworthy."""
    assert class_info.image_reliance is not None, "measured classes have rows"
    flags = {
        "thin": class_info.image_reliance.thin,
        "not beyond chance": class_info.image_reliance.is_by_chance,
        "occlusion disagrees": bool(contradictions([class_info], concepts)),
    }
    return tuple(flag for flag, there in flags.items() if there)


def depends_on_one_thing(classes: Sequence[ClassReliance]) -> tuple[str, ...]:
    """Names of the classes that lose more than half of their accuracy with one concept, interval included.

    Not those that lose as much by chance.
    """
    return tuple(name for name, reliance in _judgeable(classes) if reliance.low > HALF and not reliance.is_by_chance)


def _judgeable(classes: Sequence[ClassReliance]) -> list[tuple[str, ImageReliance]]:
    """Names and reliance of the classes that were measured on enough images."""
    measured = ((class_info.name, class_info.image_reliance) for class_info in classes)
    return [(name, reliance) for name, reliance in measured if reliance is not None and not reliance.thin]


def _strips(concepts: Sequence[Concept], medium: Medium) -> list[Strip]:
    """Images of the concepts that have any, those first that their class depends on most."""
    shown = sorted(
        (concept for concept in concepts if concept.images), key=lambda concept: (-_own_drop(concept), concept.index)
    )
    return [_strip(concept, medium) for concept in shown[: medium.strips]]


def _strip(concept: Concept, medium: Medium) -> Strip:
    tiles = []
    for image in concept.images[: medium.tiles]:
        outlined = show(
            image.outlined, f"An image of the class {concept.class_name} with concept {concept.index} outlined"
        )
        without = show(image.without, f"The same image with concept {concept.index} removed")
        heat = show(image.heat, f"Where the evidence for {concept.class_name} lies in it") if image.heat else None
        tiles.append(
            Tile(
                tuple(filter(None, (outlined, heat, without))),
                ("the prediction flips" if image.flipped else "the prediction stays",),
            )
        )
    kind = "" if concept.kind == "region" else f", the {concept.kind} of the image"
    note = f"{concept.class_name}{kind}: {points(-_own_drop(concept))} points without it"
    return Strip(f"Concept {concept.index}", note, tuple(tiles), "", f"concept-{concept.index}")


def reliance_cell(reliance: ImageReliance | None) -> Value:
    """The drop of accuracy as a percentage with its interval."""
    if reliance is None:
        return Missing(NOT_MEASURED)
    return f"{percent(reliance.reliance)} ({percent_interval(reliance.low, reliance.high)})"


def redundancy_cell(reliance: ImageReliance | None) -> Value:
    """The number of evidence regions to remove, with its interval where it is not a single number."""
    if reliance is None:
        return Missing(NOT_MEASURED)
    low, high = (_bound(value, reliance) for value in (reliance.redundancy_low, reliance.redundancy_high))
    value = _bound(reliance.redundancy, reliance)
    return value if low == high == value else f"{value} ({low} to {high})"


def _bound(value: int | None, reliance: ImageReliance) -> str:
    return f"> {reliance.redundancy_limit}" if value is None else str(value)


def _class_table(order: Sequence[ClassReliance], concepts: Sequence[Concept], limit: int) -> Table:
    heads = (
        "n",
        "Image reliance",
        "By chance",
        "Occluded instead",
        "Agree on",
        "Redundancy",
        "Concept",
    )
    columns = [Column("Class", "name"), *map(Column, heads), Column("Flags", "text")]
    rows: list[list[Value]] = []
    for class_info in order:
        reliance = class_info.image_reliance
        if reliance is None:
            rows.append([class_info.name, *[Missing(NOT_MEASURED)] * 8])
            continue
        rows.append(
            [
                class_info.name,
                count(reliance.n),
                reliance_cell(reliance),
                chance_cell(reliance),
                check_cell(reliance),
                alike_cell(reliance),
                redundancy_cell(reliance),
                str(reliance.concept) if reliance.concept is not None else Missing(_NO_CONCEPT),
                Chips(_flags(class_info, concepts)),
            ]
        )
    return make_table(
        "Image reliance, largest first; with 95 % intervals", columns, rows, limit, "classes[].image_reliance"
    )


def _concept_table(concepts: Sequence[Concept], limit: int) -> Table:
    heads = ("Share of the image", "Images", "Drop of its class, points", "95 % interval, points")
    columns = [
        Column("Concept", "name"),
        Column("Class", "text"),
        Column("Kind", "text"),
        Column("Layer", "text"),
        *map(Column, heads),
    ]
    ordered = sorted(concepts, key=lambda concept: (-_own_drop(concept), concept.index))
    rows = [_concept_row(concept) for concept in ordered]
    return make_table("Concepts by the drop of their class", columns, rows, limit, "concepts[]")


def _own_drop(concept: Concept) -> float:
    own = _own_effect(concept)
    return own.drop if own else 0.0


def _own_effect(concept: Concept) -> ConceptEffect | None:
    return next((each for each in concept.effect if each.class_name == concept.class_name), None)


def _concept_row(concept: Concept) -> list[Value]:
    own = _own_effect(concept)
    return [
        str(concept.index),
        concept.class_name,
        concept.kind,
        concept.layer,
        percent(concept.mask_share),
        count(concept.n_images),
        points(-own.drop) if own else Missing(_NO_CONCEPT),
        f"{points(-own.high)} to {points(-own.low)}" if own else Missing(_NO_CONCEPT),
    ]
