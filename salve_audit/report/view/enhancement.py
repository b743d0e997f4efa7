"""Section on enhancement: the effect of enhancing a class's own feature on that class and on the others."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from salve_audit.report.charts.bundle import Axis, Line, draw_bundle
from salve_audit.report.charts.svg import Drawing
from salve_audit.report.language import plural, say
from salve_audit.report.numbers import count, percent, percent_interval, points, strength
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.report.view.page import Figure
from salve_audit.results import EnhancementCurve

PANELS = 6
_ALONE = "there is no other class"


def enhancement_sentence(curves: Sequence[EnhancementCurve]) -> str:
    """A sentence on the strength at which the class or the others lose 1 % of accuracy, and on the strongest edit."""
    ends = [curve.kept_until for curve in curves if curve.kept_until is not None]
    by_others = sum(curve.lost_by == "others" for curve in curves)
    by_class = sum(curve.lost_by == "class" for curve in curves)
    top = curves[0].alpha_hat[-1]
    own = statistics.fmean(curve.accuracy[-1] - curve.accuracy[0] for curve in curves)
    said = say("At α̂ = {top} the enhanced class changes by {own} points on average", top=f"{top:g}", own=points(own))
    rest = [curve.others[-1] - curve.others[0] for curve in curves if curve.others]
    said += say(", the others by {rest}.", rest=points(statistics.fmean(rest))) if rest else "."
    if not ends:
        return say(
            "Enhanced without end, class and others keep 99 % of their accuracy in every class. {said}", said=said
        )
    first = say(
        "Class and others both keep at least 99 % of their accuracy up to α̂ = {ends} in every class",
        ends=strength(min(ends)),
    )
    half = statistics.median([*ends, *[float("inf")] * (len(curves) - len(ends))])
    middle = say(" (median {half})", half=strength(half)) if half != float("inf") else ""
    who = say(
        "beyond it the others lose it first in {by_others} of {curves}",
        by_others=count(by_others),
        curves=plural(len(curves), "class", "classes"),
    )
    return say(
        "{first}{middle}; {who}, the class itself in {by_class}. {said}",
        first=first,
        middle=middle,
        who=who,
        by_class=count(by_class),
        said=said,
    )


def enhancement_table(curves: Sequence[EnhancementCurve], limit: int) -> Table:
    """One line per class."""
    top = f"α̂ = {curves[0].alpha_hat[-1]:g}"
    columns = [
        Column(say("Class"), "name"),
        Column(say("Feature")),
        Column(say("Both keep 99 % up to α̂")),
        Column(say("Lost first by"), "text"),
        Column(say("Class before")),
        Column(say("Class at {top}", top=top)),
        Column(say("95 % interval, %")),
        Column(say("Others before")),
        Column(say("Others at {top}", top=top)),
        Column(say("95 % interval, %")),
    ]
    rows = [_row(curve) for curve in curves]
    return make_table(say("Dominant feature enhanced"), columns, rows, limit, "stress.enhancement[]")


def _row(curve: EnhancementCurve) -> list[Value]:
    others_cells: list[Value] = [Missing(_ALONE)] * 3
    if curve.others:
        interval = percent_interval(curve.others_low[-1], curve.others_high[-1])
        others_cells = [percent(curve.others[0]), percent(curve.others[-1]), interval]
    return [
        curve.class_name,
        str(curve.feature),
        "any" if curve.kept_until is None else strength(curve.kept_until),
        curve.lost_by or "neither",
        percent(curve.accuracy[0]),
        percent(curve.accuracy[-1]),
        percent_interval(curve.low[-1], curve.high[-1]),
        *others_cells,
    ]


def enhancement_figure(curves: Sequence[EnhancementCurve]) -> Figure:
    """The most fragile classes, one panel each."""
    shown = curves[:PANELS]
    note = (
        say("Shown are the {shown} most fragile of {curves} classes.", shown=len(shown), curves=count(len(curves)))
        if len(curves) > PANELS
        else ""
    )
    return Figure(
        "figure-enhancement",
        say("Accuracy of the class and of the others while the class's dominant feature is enhanced"),
        tuple(_panel(curve) for curve in shown),
        "stress.enhancement[]",
        panels=True,
        note=note,
    )


def _panel(curve: EnhancementCurve) -> Drawing:
    lines = [Line(say("this class"), curve.accuracy, curve.low, curve.high)]
    if curve.others:
        lines.append(Line(say("mean of the others"), curve.others, curve.others_low, curve.others_high))
    return draw_bundle(curve.class_name, Axis(curve.alpha_hat, say("strength α̂, enhanced")), lines, width=224)
