"""Boxes from quantiles: how the samples' thresholds are spread, three rows per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from salve_audit.report.charts.axes import ALPHA_LABEL, Scale, alpha_scale, draw_x_axis
from salve_audit.report.charts.svg import BLUE, INK, RULE, SKY, Canvas, Drawing, arrow, box, distinct_labels, segment
from salve_audit.report.language import say

WIDTH, LEFT, RIGHT, TOP, ROW = 680, 172, 26, 30, 11
CLASS_GAP = 6
_FILLS = {"analytical": "#ffffff", "numerical": SKY, "flip": BLUE}
_MEDIANS = {"analytical": INK, "numerical": INK, "flip": "#ffffff"}


@dataclass(frozen=True)
class Spread:
    """One threshold of one class: quantiles at 5, 25, 50, 75 and 95 % (None: not reached)."""

    threshold: str
    quantiles: tuple[float | None, float | None, float | None, float | None, float | None]


@dataclass(frozen=True)
class BoxGroup:
    """The thresholds of one class."""

    name: str
    spreads: tuple[Spread, ...]


def draw_boxes(groups: Sequence[BoxGroup], scale_values: Sequence[float | None], title: str) -> Drawing:
    """The chart of `groups` from top to bottom; `scale_values` fix the axis, so that parts of one figure agree."""
    tops, bottom = [], float(TOP)
    for group in groups:
        tops.append(bottom)
        bottom += ROW * max(1, len(group.spreads)) + CLASS_GAP
    desc = say(
        "Per class three boxes from the 25 % to the 75 % quantile, with the median as a line inside and whiskers "
    )
    desc += say("from 5 to 95 %; an arrow means that it goes on beyond the axis or is not reached.")
    canvas = Canvas(WIDTH, bottom + 40, title, desc)
    scale = alpha_scale(scale_values, LEFT, WIDTH - RIGHT - 14)
    draw_x_axis(canvas, scale, (TOP, bottom), ALPHA_LABEL)
    labels = distinct_labels([group.name for group in groups], LEFT - 18)
    for group, label, top in zip(groups, labels, tops, strict=True):
        middle = top + (ROW * max(1, len(group.spreads)) + CLASS_GAP) / 2
        canvas.text((LEFT - 10, middle + 4), label, anchor="end")
        canvas.path(segment(8, top, scale.end + 14, top), stroke=RULE, width=0.7)
        for i, spread in enumerate(group.spreads):
            _draw_spread(canvas, spread, top + CLASS_GAP / 2 + ROW * (i + 0.5), scale)
    _draw_legend(canvas)
    return canvas.render()


def _draw_spread(canvas: Canvas, spread: Spread, y: float, scale: Scale) -> None:
    q05, q25, q50, q75, q95 = (scale.shown(value) for value in spread.quantiles)
    if q05 is None:
        canvas.path(arrow(scale.end + 14, y, 3.5), stroke=INK, width=1.2)
        return
    edge = scale.end + 14
    right = edge if q95 is None else scale(q95)
    canvas.path(segment(scale(q05), y, right, y), stroke=INK, width=1)
    if q95 is None:
        canvas.path(arrow(edge, y, 3.5), stroke=INK, width=1.2)
    if q25 is not None:
        start = scale(q25)
        end = scale.end + 6 if q75 is None else scale(q75)
        canvas.path(box(start, y - 4, max(end - start, 1), 8), fill=_FILLS[spread.threshold], stroke=INK, width=0.9)
    if q50 is not None:
        at = scale(q50)
        canvas.path(segment(at, y - 4, at, y + 4), stroke=_MEDIANS[spread.threshold], width=2)


def _draw_legend(canvas: Canvas) -> None:
    for i, name in enumerate(_FILLS):
        x = 8 + 130 * i
        canvas.path(box(x, 5, 22, 8), fill=_FILLS[name], stroke=INK, width=0.9)
        canvas.path(segment(x + 11, 5, x + 11, 13), stroke=_MEDIANS[name], width=2)
        canvas.text((x + 28, 13), name)
