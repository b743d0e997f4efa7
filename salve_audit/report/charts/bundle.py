"""Small panels of accuracies over strengths or steps: a few lines, each with the band of its 95 % interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from salve_audit.report.charts.axes import Scale, draw_y_axis, tick_label
from salve_audit.report.charts.svg import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    RULE,
    SKY,
    VERMILLION,
    Canvas,
    Drawing,
    circle,
    diamond,
    num,
    polyline,
    segment,
    shortened,
    square,
    triangle,
)
from salve_audit.report.language import say

LEFT, RIGHT, TOP, PLOT = 46, 12, 30, 118
STYLES = (
    (BLUE, "#d5e8f3", "", circle),
    (VERMILLION, "#f9e2d3", "6 2.5", square),
    (ORANGE, "#fbeecf", "2 2", triangle),
    (SKY, "#e1f1fb", "7 2 2 2", diamond),
)
MOST_LINES = len(STYLES)


@dataclass(frozen=True)
class Line:
    """Shares at every place of the axis, with their intervals."""

    name: str
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Axis:
    """The places on the x axis (even distances where `ordinal`), what it is called, and what its ends mean."""

    places: tuple[float, ...]
    label: str
    ends: tuple[str, str] = ("", "")
    ordinal: bool = False


def draw_bundle(title: str, axis: Axis, lines: Sequence[Line], width: float = 332) -> Drawing:
    """One panel; at most `MOST_LINES` lines, named below it."""
    desc = say("Accuracy in percent against {label}, with 95 % intervals as bands.", label=axis.label)
    about = say("{what}: accuracy against {label}", what=title, label=axis.label)
    canvas = Canvas(width, TOP + PLOT + 40 + 16 * len(lines), about, desc)
    canvas.text((4, 13), shortened(title, width - 8, 12), size=12, bold=True)
    at = tuple(range(len(axis.places))) if axis.ordinal else axis.places
    x = Scale(min(at, default=0.0), max(at, default=1.0), LEFT + 10, width - RIGHT - 10)
    y = Scale(*_span(lines), TOP + PLOT, TOP)
    draw_y_axis(canvas, y, (LEFT, width - RIGHT), say("accuracy, %"), percent=True)
    places = [x(position) for position in at]
    _draw_x(canvas, axis, places, width)
    drawn = list(zip(lines[:MOST_LINES], STYLES, strict=False))
    for line, style in drawn:
        canvas.path(_band(places, line, y), fill=style[1])
    for i, (line, (color, _, dash, shape)) in enumerate(drawn):
        points = [(px, y(v)) for px, v in zip(places, line.values, strict=True)]
        canvas.path(polyline(points), stroke=color, width=2, dash=dash)
        if len(points) <= 20:
            canvas.path("".join(shape(px, py, 2.6) for px, py in points), fill=color, stroke=INK, width=0.5)
        base = TOP + PLOT + 45 + 16 * i
        canvas.path(segment(LEFT, base - 4, LEFT + 28, base - 4), stroke=color, width=2, dash=dash)
        canvas.path(shape(LEFT + 14, base - 4, 3), fill=color, stroke=INK, width=0.5)
        canvas.text((LEFT + 36, base), shortened(line.name, width - LEFT - 44))
    return canvas.render()


def _span(lines: Sequence[Line]) -> tuple[float, float]:
    bounds = [v for line in lines for v in (*line.low, *line.high)] or [0.0, 1.0]
    low, high = min(bounds), max(bounds)
    pad = 0.05 * max(high - low, 0.1)
    return max(0.0, low - pad), min(1.0, high + pad)


def _draw_x(canvas: Canvas, axis: Axis, places: Sequence[float], width: float) -> None:
    bottom = TOP + PLOT
    last = -1e9
    for place, value in zip(places, axis.places, strict=True):
        if value != round(value):
            continue
        canvas.path(segment(place, TOP, place, bottom), stroke=MUTED if value == 0 else RULE, width=0.6)
        if place - last >= 18:
            canvas.text((place, bottom + 13), tick_label(abs(value)), anchor="middle", size=11)
            last = place
    middle = (LEFT + width - RIGHT) / 2
    canvas.text((LEFT, bottom + 27), axis.ends[0], size=11, fill=MUTED)
    canvas.text((middle, bottom + 27), axis.label, anchor="middle", size=11, fill=MUTED)
    canvas.text((width - RIGHT, bottom + 27), axis.ends[1], anchor="end", size=11, fill=MUTED)


def _band(places: Sequence[float], line: Line, y: Scale) -> str:
    """A closed path along the upper bounds and back along the lower ones."""
    there = [(px, y(v)) for px, v in zip(places, line.high, strict=True)]
    back = [(px, y(v)) for px, v in zip(places, line.low, strict=True)][::-1]
    return "M" + "L".join(f"{num(px)} {num(py)}" for px, py in [*there, *back]) + "Z" if there else ""
