"""Dot and interval: one row per class, its α̂ flip median with the 95 % interval and the policy's limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from salve_audit.report.charts.axes import ALPHA_LABEL, Scale, alpha_scale, draw_x_axis, tick_label
from salve_audit.report.charts.svg import (
    BLUE,
    INK,
    MUTED,
    VERMILLION,
    Canvas,
    Drawing,
    arrow,
    circle,
    diamond,
    segment,
    shortened,
)
from salve_audit.report.numbers import strength

WIDTH, LEFT, RIGHT, TOP, ROW = 680, 172, 26, 34, 15
NARROW_WIDTH, NARROW_LEFT = 360, 104  # for a telephone, where the wide chart would be scaled until nobody can read it


@dataclass(frozen=True)
class DotRow:
    """A class: median, interval, and the gate's outcome ("fail", "undecided", "pass", "thin" or "")."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    outcome: str


_STYLES = {
    "fail": ("whole interval below the limit", diamond, VERMILLION, VERMILLION),
    "undecided": ("interval contains the limit", diamond, "#ffffff", VERMILLION),
    "pass": ("not below the limit", circle, BLUE, BLUE),
    "thin": ("too few samples to judge", circle, "#ffffff", MUTED),
    "": ("median and 95 % interval", circle, BLUE, BLUE),
}


def draw_dots(rows: Sequence[DotRow], limit: float | None, title: str, *, narrow: bool = False) -> Drawing:
    """The chart of `rows` from top to bottom."""
    width, left = (NARROW_WIDTH, NARROW_LEFT) if narrow else (WIDTH, LEFT)
    keys = [key for key in _STYLES if any(row.outcome == key for row in rows)]
    top = TOP + (14 * (len(keys) - 1) if narrow else 0)
    bottom = top + ROW * len(rows)
    desc = "One row per class. A mark is the median strength at which the prediction flips, a line its 95 % interval; "
    desc += "an arrow to the right means that it goes on beyond the axis or is not reached."
    canvas = Canvas(width, bottom + 42, title, desc)
    values = [v for row in rows for v in (row.value, row.low, row.high)]
    scale = alpha_scale(values, left, width - RIGHT - 14, least=limit or 0.0)
    draw_x_axis(canvas, scale, (top, bottom), "strength α̂ (no unit)" if narrow else ALPHA_LABEL)
    if limit is not None:
        canvas.path(segment(scale(limit), top - 4, scale(limit), bottom), stroke=INK, width=1.3, dash="5 3")
        canvas.text((scale(limit), top - 8), f"limit {tick_label(limit)}", anchor="middle", size=10.5, bold=True)
    for i, row in enumerate(rows):
        _draw_row(canvas, row, top + ROW * (i + 0.5), scale)
    _draw_legend(canvas, keys, narrow)
    return canvas.render()


def _draw_row(canvas: Canvas, row: DotRow, y: float, scale: Scale) -> None:
    _, shape, fill, stroke = _STYLES[row.outcome]
    canvas.text((scale.start - 10, y + 4), shortened(row.label, scale.start - 18), anchor="end")
    edge = scale.end + 14
    value, low, high = (scale.shown(v) for v in (row.value, row.low, row.high))
    if low is not None:
        right = edge if high is None else scale(high)
        ends = "" if high is None else segment(right, y - 3, right, y + 3)
        line = segment(scale(low), y, right, y) + segment(scale(low), y - 3, scale(low), y + 3)
        canvas.path(line + ends, stroke=stroke, width=1.6)
    if low is None or high is None:
        canvas.path(arrow(edge, y), stroke=stroke, width=1.6)
    if value is not None:
        canvas.path(shape(scale(value), y, 4.6), fill=fill, stroke=stroke, width=1.5)
        return
    text = "median not reached" if row.value is None else f"median {strength(row.value)}"
    text_x = edge - 12 if low is None else scale(low) - 7
    anchor = "end" if text_x > scale.start + 100 else "start"
    canvas.text((text_x if anchor == "end" else scale.start + 4, y + 3.5), text, anchor=anchor, size=9.5, fill=MUTED)


def _draw_legend(canvas: Canvas, keys: Sequence[str], stacked: bool) -> None:
    x, y = 8.0, 9.0
    for key in keys:
        text, shape, fill, stroke = _STYLES[key]
        canvas.path(segment(x, y, x + 18, y), stroke=stroke, width=1.6)
        canvas.path(shape(x + 9, y, 4.6), fill=fill, stroke=stroke, width=1.5)
        canvas.text((x + 24, y + 3.5), text, size=10.5)
        if stacked:
            y += 14
        else:
            x += 24 + 5.5 * len(text) + 12
