"""The autoencoder's frontier: how much of the model is kept against how many latents are active."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from salve_audit.report.charts.axes import Scale, draw_x_axis, draw_y_axis
from salve_audit.report.charts.svg import (
    BLUE,
    INK,
    ORANGE,
    VERMILLION,
    Canvas,
    Drawing,
    circle,
    diamond,
    polyline,
    segment,
    square,
    triangle,
)
from salve_audit.report.language import say

WIDTH, LEFT, RIGHT, TOP, PLOT, BETWEEN = 680, 52, 14, 38, 150, 62
_STYLES = ((BLUE, "", circle), (ORANGE, "5 3", square), ("#009e73", "2 2", triangle), ("#595959", "7 2 2 2", diamond))


@dataclass(frozen=True)
class FrontierPoint:
    """One trained autoencoder."""

    variant: str
    l0: float
    r2: float
    accuracy_kept: float
    chosen: bool
    n_latents: int = 0  # a line of its own for each number
    full: bool = True  # else trained briefly with one seed


def draw_frontier(points: Sequence[FrontierPoint], title: str) -> Drawing:
    """Two panels side by side over the same L0 axis: R² and the share of the accuracy that is kept."""
    desc = say(
        "Left: R² against the mean number of active latents. Right: accuracy with reconstructed activations as a "
    )
    desc += say("share of the original. Dashed lines are the goals 0.9 and 99 %; a ring marks the chosen autoencoder. ")
    desc += say("Open marks were trained briefly with one seed, filled ones in full.")
    canvas = Canvas(WIDTH, TOP + PLOT + 36, title, desc)
    room = (WIDTH - LEFT - RIGHT - BETWEEN) / 2
    variants = list(dict.fromkeys(p.variant for p in points))
    for i, (goal, label) in enumerate(((0.9, say("R² of the activations, %")), (0.99, say("accuracy kept, %")))):
        start = LEFT + i * (room + BETWEEN)
        values = [p.accuracy_kept if i else p.r2 for p in points]
        x = _l0_scale([p.l0 for p in points], start, start + room)
        y = _value_scale([*values, goal])
        draw_x_axis(canvas, x, (TOP, TOP + PLOT), say("L0: active latents per image (log scale)"))
        draw_y_axis(canvas, y, (start, start + room), label, percent=True)
        canvas.path(segment(start, y(goal), start + room, y(goal)), stroke=INK, width=1.1, dash="5 3")
        for variant, (color, dash, shape) in zip(variants, _STYLES * len(variants), strict=False):
            for n_latents in sorted({p.n_latents for p in points if p.variant == variant}):
                own = sorted(
                    (x(max(p.l0, 1e-3)), y(v), p.full)
                    for p, v in zip(points, values, strict=True)
                    if (p.variant, p.n_latents) == (variant, n_latents)
                )
                brief = [(px, py) for px, py, full in own if not full]
                canvas.path(polyline(brief), stroke=color, width=1.6, dash=dash)
                canvas.path("".join(shape(px, py, 3.2) for px, py in brief), fill="#ffffff", stroke=color, width=1.3)
                canvas.path("".join(shape(px, py, 4) for px, py, full in own if full), fill=color)
        chosen = [(x(max(p.l0, 1e-3)), y(v)) for p, v in zip(points, values, strict=True) if p.chosen]
        canvas.path("".join(circle(px, py, 8) for px, py in chosen), stroke=VERMILLION, width=2)
    _draw_legend(canvas, variants)
    return canvas.render()


def _l0_scale(values: Sequence[float], start: float, end: float) -> Scale:
    positive = [max(v, 1e-3) for v in values] or [1.0]
    return Scale(min(positive) / 1.25, max(positive) * 1.25, start, end, "log")


def _value_scale(values: Sequence[float]) -> Scale:
    low, high = min(values), max(*values, 1.0)
    pad = 0.06 * ((high - low) or 0.1)
    return Scale(low - pad, high + pad, TOP + PLOT, TOP)


def _draw_legend(canvas: Canvas, variants: Sequence[str]) -> None:
    at = 8.0
    for variant, (color, dash, shape) in zip(variants, _STYLES * len(variants), strict=False):
        canvas.path(segment(at, 10, at + 26, 10), stroke=color, width=1.6, dash=dash)
        canvas.path(shape(at + 13, 10, 3.8), fill=color)
        canvas.text((at + 32, 14), variant, size=11)
        at += 48 + 6.2 * len(variant)
    canvas.path(circle(at + 8, 10, 7), stroke=VERMILLION, width=2)
    canvas.text((at + 22, 14), "chosen", size=11)
    canvas.path(segment(at + 80, 10, at + 106, 10), stroke=INK, width=1.1, dash="5 3")
    canvas.text((at + 112, 14), say("goal: R² 90 %, accuracy kept 99 %"), size=11)
