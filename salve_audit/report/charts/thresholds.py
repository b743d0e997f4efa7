"""Four critical strengths per class on one axis: analytical, numerical, flip with its interval, empirical."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from salve_audit.report.charts.axes import ALPHA_LABEL, Scale, alpha_scale, draw_x_axis, tick_label
from salve_audit.report.charts.svg import (
    BLUE,
    INK,
    MUTED,
    RULE,
    VERMILLION,
    Canvas,
    Drawing,
    arrow,
    circle,
    diamond,
    distinct_labels,
    segment,
    square,
    triangle,
)
from salve_audit.report.language import say

WIDTH, LEFT, RIGHT, TOP, ROW = 680, 172, 26, 34, 17
NARROW_WIDTH, NARROW_LEFT = 360, 104  # for a telephone, where the wide chart would be scaled until nobody can read it
PAPER = "#ffffff"


@dataclass(frozen=True)
class ThresholdRow:
    """One class; None: not reached."""

    label: str
    analytical: float | None
    numerical: float | None
    flip: float | None
    low: float | None
    high: float | None
    empirical: float | None


_Shape = Callable[[float, float, float], str]
_MARKS: dict[str, tuple[_Shape, str, str, float]] = {
    "analytical": (triangle, PAPER, INK, 4.2),
    "numerical": (square, PAPER, INK, 3.6),
    "empirical": (diamond, PAPER, VERMILLION, 4.6),
    "flip": (circle, BLUE, BLUE, 4.4),
}


def draw_thresholds(
    rows: Sequence[ThresholdRow],
    values: Sequence[float | None],
    limit: float | None,
    title: str,
    *,
    narrow: bool = False,
) -> Drawing:
    """The chart of `rows` from top to bottom; `values` fix the axis, so that parts of one figure agree."""
    width, left = (NARROW_WIDTH, NARROW_LEFT) if narrow else (WIDTH, LEFT)
    top = TOP + (14 if narrow else 0)
    bottom = top + ROW * len(rows)
    desc = (
        "One row per class. A circle is the median strength at which the prediction flips, a line its 95 % interval; "
    )
    desc += "an arrow to the right means that a threshold lies beyond the axis or is not reached."
    canvas = Canvas(width, bottom + 42, title, say(desc))
    scale = alpha_scale(values, left, width - RIGHT - 14, least=limit or 0.0)
    draw_x_axis(canvas, scale, (top, bottom), say("strength α̂ (no unit)") if narrow else say(ALPHA_LABEL))
    if limit is not None:
        canvas.path(segment(scale(limit), top - 4, scale(limit), bottom), stroke=INK, width=1.3, dash="5 3")
        canvas.text(
            (scale(limit), top - 8),
            say("flip limit {limit}", limit=tick_label(limit)),
            anchor="middle",
            size=11,
            bold=True,
        )
    labels = distinct_labels([row.label for row in rows], left - 18)
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        y = top + ROW * (i + 0.5)
        canvas.path(segment(left, y, scale.end + 14, y), stroke=RULE, width=0.6)
        canvas.text((left - 10, y + 4), label, anchor="end")
        _draw_row(canvas, row, y, scale)
    _draw_legend(canvas, narrow)
    return canvas.render()


def _draw_row(canvas: Canvas, row: ThresholdRow, y: float, scale: Scale) -> None:
    edge = scale.end + 14
    low, high = scale.shown(row.low), scale.shown(row.high)
    if low is not None:
        canvas.path(segment(scale(low), y, edge if high is None else scale(high), y), stroke=BLUE, width=2.2)
    beyond = False
    for name, (shape, fill, stroke, radius) in _MARKS.items():
        value = getattr(row, name)
        shown = scale.shown(value)
        if shown is not None:
            canvas.path(shape(scale(shown), y, radius), fill=fill, stroke=stroke, width=1.5)
        else:
            beyond = beyond or name == "flip"
    if beyond or (low is not None and high is None):
        canvas.path(arrow(edge, y), stroke=BLUE, width=1.8)


def _draw_legend(canvas: Canvas, stacked: bool) -> None:
    x, y = 10.0, 9.0
    for i, (name, (shape, fill, stroke, radius)) in enumerate(_MARKS.items()):
        if stacked and i == 2:
            x, y = 10.0, 23.0
        canvas.path(shape(x, y, radius), fill=fill, stroke=stroke, width=1.5)
        canvas.text((x + 10, y + 3.5), say(name), size=11)
        x += 100 if stacked else 110
    canvas.text((x, y + 3.5), say("→ beyond, or not reached"), size=11, fill=MUTED)
