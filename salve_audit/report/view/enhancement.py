"""What enhancing a class's own feature does to the class and to the others."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from salve_audit.report.charts.bundle import Axis, Line, draw_bundle
from salve_audit.report.charts.svg import Drawing
from salve_audit.report.numbers import count, percent, percent_interval, plural, points, strength
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.report.view.page import Figure
from salve_audit.results import EnhancementCurve

PANELS = 6
_ALONE = "there is no other class"


def enhancement_sentence(curves: Sequence[EnhancementCurve]) -> str:
    """How far enhancement goes before class or others lose 1 % of their accuracy, and what it does at the end."""
    ends = [one.kept_until for one in curves if one.kept_until is not None]
    by_others = sum(one.lost_by == "others" for one in curves)
    by_class = sum(one.lost_by == "class" for one in curves)
    top = curves[0].alpha_hat[-1]
    own = statistics.fmean(one.accuracy[-1] - one.accuracy[0] for one in curves)
    said = f"At α̂ = {top:g} the enhanced class changes by {points(own)} points on average"
    rest = [one.others[-1] - one.others[0] for one in curves if one.others]
    said += f", the others by {points(statistics.fmean(rest))}." if rest else "."
    if not ends:
        return f"Enhanced without end, class and others keep 99 % of their accuracy in every class. {said}"
    first = f"Class and others both keep at least 99 % of their accuracy up to α̂ = {strength(min(ends))} in every class"
    half = statistics.median([*ends, *[float("inf")] * (len(curves) - len(ends))])
    middle = f" (median {strength(half)})" if half != float("inf") else ""
    who = f"beyond it the others lose it first in {count(by_others)} of {plural(len(curves), 'class', 'classes')}"
    return f"{first}{middle}; {who}, the class itself in {count(by_class)}. {said}"


def enhancement_table(curves: Sequence[EnhancementCurve], limit: int) -> Table:
    """One line per class."""
    top = f"α̂ = {curves[0].alpha_hat[-1]:g}"
    columns = [
        Column("Class", "name"),
        Column("Feature"),
        Column("Both keep 99 % up to α̂"),
        Column("Lost first by", "text"),
        Column("Class before"),
        Column(f"Class at {top}"),
        Column("95 % interval, %"),
        Column("Others before"),
        Column(f"Others at {top}"),
        Column("95 % interval, %"),
    ]
    rows = [_row(one) for one in curves]
    return make_table("Dominant feature enhanced", columns, rows, limit, "stress.enhancement[]")


def _row(one: EnhancementCurve) -> list[Value]:
    others: list[Value] = [Missing(_ALONE)] * 3
    if one.others:
        interval = percent_interval(one.others_low[-1], one.others_high[-1])
        others = [percent(one.others[0]), percent(one.others[-1]), interval]
    return [
        one.class_name,
        str(one.feature),
        "any" if one.kept_until is None else strength(one.kept_until),
        one.lost_by or "neither",
        percent(one.accuracy[0]),
        percent(one.accuracy[-1]),
        percent_interval(one.low[-1], one.high[-1]),
        *others,
    ]


def enhancement_figure(curves: Sequence[EnhancementCurve]) -> Figure:
    """The most fragile classes, one panel each."""
    shown = curves[:PANELS]
    note = f"Shown are the {len(shown)} most fragile of {count(len(curves))} classes." if len(curves) > PANELS else ""
    return Figure(
        "figure-enhancement",
        "Accuracy of the class and of the others while the class's dominant feature is enhanced",
        tuple(_panel(one) for one in shown),
        "stress.enhancement[]",
        panels=True,
        note=note,
    )


def _panel(one: EnhancementCurve) -> Drawing:
    lines = [Line("this class", one.accuracy, one.low, one.high)]
    if one.others:
        lines.append(Line("mean of the others", one.others, one.others_low, one.others_high))
    return draw_bundle(one.class_name, Axis(one.alpha_hat, "strength α̂, enhanced"), lines, width=224)
