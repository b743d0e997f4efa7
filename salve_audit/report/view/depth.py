"""What the classes rest on in the picture: reliance and redundancy at depth, and the concepts behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from salve_audit.report.numbers import count, names, percent, percent_interval, plural, points
from salve_audit.report.tables import Chips, Column, Missing, Table, Value, make_table
from salve_audit.report.view.depth_controls import (
    alike_cell,
    check_cell,
    contradictions,
    null_cell,
    say_checks,
)
from salve_audit.report.view.page import Medium, Section
from salve_audit.report.view.pictures import Strip, Tile, show
from salve_audit.report.view.removals import build_removals, conclude_removals
from salve_audit.results import AuditResult, ClassDepth, ClassReliance, Concept, ConceptEffect, Depth

HALF = 0.5  # of the accuracy: a larger drop is named in the sentence
NOT_MEASURED = "reliance at depth was not measured for this class"
_NO_CONCEPT = "no concept lowers the accuracy of this class"


def build_depth(result: AuditResult, medium: Medium) -> Section | None:
    """The section; None where an earlier version wrote the audit."""
    if result.depth is None:
        return None
    parts: dict[str, object] = {"absent": result.depth.why_absent, "depth": result.depth}
    if not result.depth.why_absent:
        order = deepest_first(result.classes)
        parts |= {
            "sentence": _sentence(order),
            "how": _how(result.depth),
            "check": say_checks(order, result.concepts),
            "table": _class_table(order, result.concepts, medium.table_rows),
            "strips": _strips(result.concepts, medium),
            "concepts": _concept_table(result.concepts, medium.table_rows) if result.concepts else None,
            "removals": build_removals(result.concepts, medium.table_rows),
            "inside": conclude_removals(result.concepts),
            "not_removed": "; ".join(result.depth.not_removed),
        }
    return Section("depth", "What the classes rest on in the picture", "depth.html.j2", parts)


def deepest_first(classes: Sequence[ClassReliance]) -> tuple[ClassReliance, ...]:
    """Classes by falling reliance at depth, those without it last."""

    def key(one: ClassReliance) -> tuple[float, int]:
        return (math.inf if one.depth is None else -one.depth.reliance, one.index)

    return tuple(sorted(classes, key=key))


def _sentence(order: Sequence[ClassReliance]) -> str:
    measured = [(one.name, one.depth) for one in order if one.depth is not None and not one.depth.thin]
    if not measured:
        return "No class has enough pictures for a judgement."
    sure = rests_on_one(order)
    held = [name for name, found in measured if found.high <= HALF]
    said = []
    if sure:
        said.append(
            f"Without one concept more than half of the pictures of {names(sure)} turn wrong, interval included"
        )
    if held:
        said.append(f"no one thing was found without which more than half of the pictures of {names(held)} turn wrong")
    rest = len(measured) - len(sure) - len(held)
    if rest:
        said.append(f"for {plural(rest, 'class', 'classes')} the pictures do not decide it")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def _how(depth: Depth) -> str:
    left = ""
    if depth.n_classes_left_out:
        n = depth.n_classes_left_out
        left = f" {plural(n, 'less fragile class', 'less fragile classes')} {'was' if n == 1 else 'were'} left out."
    share = "" if depth.share_of_audit is None else f" ({percent(depth.share_of_audit)} of the audit pictures)"
    of = f", {count(depth.n_pictures)} in all{share}" if depth.n_pictures else ""
    return (
        f"{depth.method} Measured on at most {plural(depth.n_per_class, 'picture')} per class{of}, with "
        f"{count(depth.n_passes)} passes of a picture through the network; pieces are told apart at "
        f"{names(list(depth.layers[:1]))}.{left}"
    )


def _flags(one: ClassReliance, concepts: Sequence[Concept]) -> tuple[str, ...]:
    """What makes a row less trustworthy."""
    assert one.depth is not None, "measured classes have rows"
    flags = {
        "thin": one.depth.thin,
        "not beyond chance": one.depth.is_by_chance,
        "occlusion disagrees": bool(contradictions([one], concepts)),
    }
    return tuple(flag for flag, there in flags.items() if there)


def rests_on_one(classes: Sequence[ClassReliance]) -> tuple[str, ...]:
    """Names of the classes that lose more than half of their accuracy with one concept, interval included.

    Not those that lose as much by chance.
    """
    found = [(one.name, one.depth) for one in classes if one.depth is not None and not one.depth.thin]
    return tuple(name for name, depth in found if depth.low > HALF and not depth.is_by_chance)


def _strips(concepts: Sequence[Concept], medium: Medium) -> list[Strip]:
    """Pictures of the concepts that have any, those first that their class rests on most."""
    shown = sorted((one for one in concepts if one.images), key=lambda one: (-_own_drop(one), one.index))
    return [_strip(one, medium) for one in shown[: medium.strips]]


def _strip(one: Concept, medium: Medium) -> Strip:
    tiles = []
    for image in one.images[: medium.tiles]:
        outlined = show(image.outlined, f"A picture of the class {one.class_name} with concept {one.index} outlined")
        without = show(image.without, f"The same picture with concept {one.index} taken out")
        heat = show(image.heat, f"Where the evidence for {one.class_name} lies in it") if image.heat else None
        tiles.append(
            Tile(
                tuple(filter(None, (outlined, heat, without))), ("counts as lost" if image.lost else "counts as kept",)
            )
        )
    kind = "" if one.kind == "place" else f", the {one.kind} of the picture"
    note = f"{one.class_name}{kind}: {points(-_own_drop(one))} points without it"
    return Strip(f"Concept {one.index}", note, tuple(tiles), "", f"concept-{one.index}")


def reliance_cell(found: ClassDepth | None) -> Value:
    """The drop of accuracy as a percentage with its interval."""
    if found is None:
        return Missing(NOT_MEASURED)
    return f"{percent(found.reliance)} ({percent_interval(found.low, found.high)})"


def redundancy_cell(found: ClassDepth | None) -> Value:
    """How many pieces must go, with its interval where it is one."""
    if found is None:
        return Missing(NOT_MEASURED)
    low, high = (_bound(value, found) for value in (found.redundancy_low, found.redundancy_high))
    value = _bound(found.redundancy, found)
    return value if low == high == value else f"{value} ({low} to {high})"


def _bound(value: int | None, found: ClassDepth) -> str:
    return f"> {found.redundancy_limit}" if value is None else str(value)


def _class_table(order: Sequence[ClassReliance], concepts: Sequence[Concept], limit: int) -> Table:
    heads = (
        "n",
        "Reliance",
        "By chance",
        "Places covered instead",
        "Alike on",
        "Redundancy",
        "Concept",
    )
    columns = [Column("Class", "name"), *map(Column, heads), Column("Flags", "text")]
    rows: list[list[Value]] = []
    for one in order:
        found = one.depth
        if found is None:
            rows.append([one.name, *[Missing(NOT_MEASURED)] * 8])
            continue
        rows.append(
            [
                one.name,
                count(found.n),
                reliance_cell(found),
                null_cell(found),
                check_cell(found),
                alike_cell(found),
                redundancy_cell(found),
                str(found.concept) if found.concept is not None else Missing(_NO_CONCEPT),
                Chips(_flags(one, concepts)),
            ]
        )
    return make_table("Reliance at depth, largest first; with 95 % intervals", columns, rows, limit, "classes[].depth")


def _concept_table(concepts: Sequence[Concept], limit: int) -> Table:
    heads = ("Share of the picture", "Pictures", "Drop of its class, points", "95 % interval, points")
    columns = [
        Column("Concept", "name"),
        Column("Class", "text"),
        Column("Kind", "text"),
        Column("Layer", "text"),
        *map(Column, heads),
    ]
    ordered = sorted(concepts, key=lambda one: (-_own_drop(one), one.index))
    rows = [_concept_row(one) for one in ordered]
    return make_table("Concepts by the drop of their class", columns, rows, limit, "concepts[]")


def _own_drop(one: Concept) -> float:
    own = _own_effect(one)
    return own.drop if own else 0.0


def _own_effect(one: Concept) -> ConceptEffect | None:
    return next((each for each in one.effect if each.class_name == one.class_name), None)


def _concept_row(one: Concept) -> list[Value]:
    own = _own_effect(one)
    return [
        str(one.index),
        one.class_name,
        one.kind,
        one.layer,
        percent(one.mask_share),
        count(one.n_images),
        points(-own.drop) if own else Missing(_NO_CONCEPT),
        f"{points(-own.high)} to {points(-own.low)}" if own else Missing(_NO_CONCEPT),
    ]
