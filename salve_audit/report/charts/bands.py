"""Suppression curves over seeds: one small panel per class, the mean with a band of one standard deviation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from salve_audit.report.charts.axes import Scale, draw_x_axis, draw_y_axis
from salve_audit.report.charts.svg import BLUE, INK, SKY, Canvas, Drawing, num, polyline, segment, shortened
from salve_audit.report.language import say

WIDTH, HEIGHT = 224, 178
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 32, 142


@dataclass(frozen=True)
class BandPanel:
    """One class: accuracy over strengths, mean and standard deviation over seeds; flip medians of the seeds."""

    name: str
    alpha_hat: tuple[float, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    medians: tuple[float, ...]


def draw_band(panel: BandPanel, high: float, kind: str) -> Drawing:
    """The panel of one class on the strength axis from 0 to `high` that all panels share."""
    widest = max(panel.deviation, default=0.0)
    title = say("Suppression curve of {name} over seeds", name=panel.name)
    desc = say(
        "Mean accuracy over seeds against the strength, with a band of at most {widest} (standard deviation).",
        widest=f"{widest:.3f}",
    )
    canvas = Canvas(WIDTH, HEIGHT, title, desc)
    canvas.text((4, 13), shortened(panel.name, WIDTH - 8, 12), size=12, bold=True)
    x, y = Scale(0.0, high, LEFT, WIDTH - RIGHT, kind), Scale(0.0, 1.0, BOTTOM, TOP)
    draw_x_axis(canvas, x, (TOP, BOTTOM), say("strength α̂"))
    draw_y_axis(canvas, y, (LEFT, WIDTH - RIGHT), say("accuracy, %"), percent=True)
    n = sum(a <= high for a in panel.alpha_hat)
    at = [x(a) for a in panel.alpha_hat[:n]]
    upper = [y(min(1.0, m + s)) for m, s in zip(panel.mean[:n], panel.deviation[:n], strict=True)]
    lower = [y(max(0.0, m - s)) for m, s in zip(panel.mean[:n], panel.deviation[:n], strict=True)]
    canvas.path(_outline(at, upper, lower), fill=SKY, stroke=BLUE, width=0.5)
    canvas.path(polyline(zip(at, map(y, panel.mean[:n]), strict=True)), stroke=INK, width=1.8)
    ticks = [segment(x.clipped(m), BOTTOM - 9, x.clipped(m), BOTTOM) for m in panel.medians]
    canvas.path("".join(ticks), stroke=INK, width=1.3)
    return canvas.render()


def _outline(at: Sequence[float], upper: Sequence[float], lower: Sequence[float]) -> str:
    """A closed path along the upper edge and back along the lower one."""
    there = list(zip(at, upper, strict=True))
    back = list(zip(at, lower, strict=True))[::-1]
    if not there:
        return ""
    return "M" + "L".join(f"{num(px)} {num(py)}" for px, py in [*there, *back]) + "Z"


def draw_band_legend() -> Drawing:
    """The legend of line, band and ticks."""
    canvas = Canvas(
        680, 22, say("Legend of the curves over seeds"), say("Line, band and ticks used in the panels below.")
    )
    canvas.path(segment(4, 10, 30, 10), stroke=INK, width=1.8)
    canvas.text((36, 14), say("mean over seeds"))
    canvas.path(_outline([146, 172], [4, 4], [16, 16]), fill=SKY, stroke=BLUE, width=0.5)
    canvas.text((178, 14), say("one standard deviation"))
    canvas.path(segment(326, 6, 326, 15), stroke=INK, width=1.3)
    canvas.text((334, 14), say("flip median of one seed (at the right end: beyond the axis)"))
    return canvas.render()
