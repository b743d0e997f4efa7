"""Suppression curves: one small panel per class, accuracies against α̂ with the thresholds marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from salve_audit.report.charts.axes import Scale, draw_x_axis, draw_y_axis
from salve_audit.report.charts.svg import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    VERMILLION,
    Canvas,
    Drawing,
    circle,
    polyline,
    segment,
)
from salve_audit.report.language import say

WIDTH, HEIGHT = 300, 176
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 30, 140

# letter, dashes and line width of the vertical marks
MARKS = {
    "analytical": ("A", "1.5 2.5", 1.3),
    "numerical": ("N", "6 3", 1.3),
    "flip": ("F", "", 1.6),
}


@dataclass(frozen=True)
class Panel:
    """One class: accuracies over strengths, and the medians of its thresholds (None: not reached)."""

    name: str
    alpha_hat: tuple[float, ...]
    accuracy: tuple[float, ...]
    others: tuple[float, ...]
    marks: tuple[tuple[str, float | None], ...]  # analytical, numerical, flip
    empirical: float | None


def draw_panel(panel: Panel, high: float, kind: str) -> Drawing:
    """The panel of one class on the strength axis from 0 to `high` that all panels share."""
    title = say("Suppression curve of {name}", name=panel.name)
    marks = [f"{name} {say('not reached') if v is None else f'{v:.3g}'}" for name, v in panel.marks]
    desc = say(
        "Accuracy of {name} and of the other classes against the strength; thresholds: {marks}.",
        name=panel.name,
        marks=", ".join(marks),
    )
    canvas = Canvas(WIDTH, HEIGHT, title, desc, f"{LEFT} {WIDTH - RIGHT} {high:g} {kind} {TOP} {BOTTOM}")
    x = Scale(0.0, high, LEFT, WIDTH - RIGHT, kind)
    y = Scale(0.0, 1.0, BOTTOM, TOP)
    draw_x_axis(canvas, x, (TOP, BOTTOM), say("strength α̂"))
    draw_y_axis(canvas, y, (LEFT, WIDTH - RIGHT), say("accuracy, %"), percent=True)
    _draw_marks(canvas, panel, x)
    others_path = polyline((x(a), y(v)) for a, v in _until(panel.alpha_hat, panel.others, high))
    own = polyline((x(a), y(v)) for a, v in _until(panel.alpha_hat, panel.accuracy, high))
    canvas.path(others_path, stroke=ORANGE, width=2, dash="4 2.5")
    canvas.path(own, stroke=BLUE, width=2.4)
    if panel.empirical is not None:
        canvas.path(circle(x.clipped(panel.empirical), y(0.5), 4), fill="#ffffff", stroke=VERMILLION, width=1.8)
    return canvas.render()


def _draw_marks(canvas: Canvas, panel: Panel, x: Scale) -> None:
    reached = [(name, value) for name, value in panel.marks if value is not None]
    places = _spread([x.clipped(value) for _, value in reached], 13.0, LEFT, WIDTH - RIGHT - 3)
    for (name, value), place in zip(reached, places, strict=True):
        letter, dash, width = MARKS[name]
        at = x.clipped(value)
        canvas.path(segment(at, TOP - 4, at, BOTTOM), stroke=INK, width=width, dash=dash)
        canvas.path(segment(place, TOP - 10, at, TOP - 4), stroke=MUTED, width=0.8)
        beyond = "→" if value > x.high else ""
        canvas.text((place, TOP - 13), letter + beyond, anchor="middle", size=11, bold=True)


def _until(strengths: Sequence[float], values: Sequence[float], high: float) -> list[tuple[float, float]]:
    """The points of a curve up to the end of the axis, the last one interpolated."""
    points = list(zip(strengths, values, strict=False))  # no values at all where there is no other class
    visible = [point for point in points if point[0] <= high]
    if visible and len(visible) < len(points):
        (a, u), (b, v) = visible[-1], points[len(visible)]
        visible.append((high, u + (v - u) * (high - a) / (b - a)))
    return visible


def _spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions at least `gap` apart, in the same order, near where they were, within (low, high)."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    for before, now in pairwise(order):
        moved[now] = max(moved[now], moved[before] + gap)
    limit = high
    for i in reversed(order):
        moved[i] = max(low, min(moved[i], limit))
        limit = moved[i] - gap
    return moved


def draw_curve_legend() -> Drawing:
    """The legend of lines, letters and marks."""
    title = say("Legend of the suppression curves")
    canvas = Canvas(680, 40, title, say("Line styles and letters used in the panels below."))
    canvas.path(segment(4, 10, 30, 10), stroke=BLUE, width=2.4)
    canvas.text((36, 14), say("this class"))
    canvas.path(segment(112, 10, 138, 10), stroke=ORANGE, width=2, dash="4 2.5")
    canvas.text((144, 14), say("mean of the other classes"))
    canvas.path(circle(312, 10, 4), fill="#ffffff", stroke=VERMILLION, width=1.8)
    canvas.text((322, 14), say("empirical: accuracy of the class reaches 50 %"))
    at = 4
    texts = {"analytical": say("analytical median"), "numerical": say("numerical median"), "flip": say("flip median")}
    for name, (letter, dash, width) in MARKS.items():
        canvas.path(segment(at + 2, 24, at + 2, 38), stroke=INK, width=width, dash=dash)
        canvas.text((at + 9, 35), letter, bold=True)
        canvas.text((at + 21, 35), texts[name])
        at += 140
    canvas.text((at, 35), say("→ beyond the axis"), fill=MUTED)
    return canvas.render()
