"""A histogram of shares: how many classes lose how much."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.report.charts.axes import Scale, draw_x_axis
from salve_audit.report.charts.svg import BLUE, INK, VERMILLION, Canvas, Drawing, box, segment
from salve_audit.report.language import say
from salve_audit.report.numbers import count, percent

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 680, 120, 8, 8, 18, 84
BINS = 20
NARROW_WIDTH, NARROW_BINS = 340, 10


def draw_histogram(values: Sequence[float], limit: float, title: str, *, narrow: bool = False) -> Drawing:
    """Classes by share in `BINS` bins, or in fewer for a narrow screen; those beyond the limit are coloured apart."""
    width, bins = (NARROW_WIDTH, NARROW_BINS) if narrow else (WIDTH, BINS)
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, max(0, int(value * bins)))] += 1
    beyond = sum(value > limit for value in values)
    desc = say("{n} of {total} above {limit}", n=count(beyond), total=count(len(values)), limit=percent(limit, 100))
    canvas = Canvas(width, HEIGHT, title, desc)
    x, y = Scale(0.0, 1.0, LEFT, width - RIGHT), Scale(0.0, max(counts), 0.0, BOTTOM - TOP)
    draw_x_axis(canvas, x, (TOP, BOTTOM), say("images lost, %"), percent=True)
    for place, n in enumerate(counts):
        if n:
            left, right, height = x(place / bins), x((place + 1) / bins), max(1.5, y(n))
            fill = VERMILLION if place / bins >= limit - 1e-9 else BLUE
            canvas.path(box(left + 1, BOTTOM - height, right - left - 2, height), fill=fill)
            canvas.text(((left + right) / 2, BOTTOM - height - 3), count(n), anchor="middle", size=11)
    canvas.path(segment(x(limit), TOP - 6, x(limit), BOTTOM), stroke=INK, width=1.2, dash="4 3")
    return canvas.render()
