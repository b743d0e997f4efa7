"""Interventions side by side: accuracy of the other classes once the target class is suppressed to the same level."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from salve_audit.interventions.registry import Role
from salve_audit.report.charts.axes import Scale, draw_x_axis, share_scale
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
    square,
)
from salve_audit.report.language import say

LEFT, GAP, TOP, ROW, WIDTH = 150, 34, 52, 18, 680


@dataclass(frozen=True)
class MethodRow:
    """A method at one target: mean over classes with its 95 % interval; None: reached in no class."""

    label: str
    mean: float | None
    low: float | None
    high: float | None
    role: Role


_STYLES = {Role.SALVE: (diamond, VERMILLION), Role.RIVAL: (circle, BLUE), Role.NULL: (square, MUTED)}


def draw_methods(targets: Sequence[tuple[str, Sequence[MethodRow]]], unedited: float | None, title: str) -> Drawing:
    """One panel per target, same rows and the same axis; `unedited` is the others' accuracy before any edit."""
    n_rows = max((len(rows) for _, rows in targets), default=0)
    desc = say(
        "Rows are methods, panels are target accuracies. A mark is the mean accuracy of the other classes over all "
    )
    desc += say("edited classes, a line its 95 % interval. Dashed: the unedited model. An arrow to the left: lower.")
    canvas = Canvas(WIDTH, TOP + ROW * n_rows + 42, title, desc)
    rated = [r for _, rows in targets for r in rows if r.role is not Role.NULL and r.mean is not None]
    floor = _floor([r.mean for r in rated if r.mean is not None])
    shares = [
        v for r in rated for v in (r.low, r.mean, r.high) if v is not None and (v >= floor or r.role is Role.SALVE)
    ]
    room = (WIDTH - LEFT - 12 - GAP * (len(targets) - 1)) / max(1, len(targets))
    for i, (name, rows) in enumerate(targets):
        start = LEFT + i * (room + GAP)
        scale = share_scale([*shares, *([] if unedited is None else [unedited])], start, start + room)
        canvas.text((start + room / 2, TOP - 10), name, anchor="middle", size=11.5, bold=True)
        bottom = TOP + ROW * n_rows
        draw_x_axis(canvas, scale, (TOP, bottom), say("accuracy of the others, %"), percent=True)
        if unedited is not None:
            canvas.path(segment(scale(unedited), TOP, scale(unedited), bottom), stroke=INK, width=1.2, dash="5 3")
        for j, row in enumerate(rows):
            y = TOP + ROW * (j + 0.5)
            if i == 0:
                canvas.text((LEFT - 10, y + 4), shortened(row.label, LEFT - 14), anchor="end")
            _draw_row(canvas, row, y, scale)
    _draw_legend(canvas)
    return canvas.render()


def _floor(means: Sequence[float]) -> float:
    """Accuracies below it are written at the edge, so that a failing method does not squeeze the others together."""
    return statistics.median(means) - 0.12 if means else 0.0


def _draw_row(canvas: Canvas, row: MethodRow, y: float, scale: Scale) -> None:
    shape, color = _STYLES[row.role]
    if row.mean is None:
        canvas.text(
            ((scale.start + scale.end) / 2, y + 3.5), say("target not reached"), anchor="middle", size=11, fill=MUTED
        )
        return
    if row.mean < scale.low:
        canvas.path(arrow(scale.start + 2, y, -4), stroke=color, width=1.6)
        canvas.text((scale.start + 11, y + 3.5), f"{100 * row.mean:.1f} %", size=11, fill=MUTED)
        return
    if row.low is not None and row.high is not None:
        canvas.path(segment(scale.clipped(row.low), y, scale.clipped(row.high), y), stroke=color, width=1.7)
    canvas.path(shape(scale(row.mean), y, 4.6), fill=color, stroke=color)


def _draw_legend(canvas: Canvas) -> None:
    texts = {Role.SALVE: say("SALVE"), Role.RIVAL: say("other methods"), Role.NULL: say("null controls")}
    for x, (role, text) in zip((8, 80, 188), texts.items(), strict=True):
        shape, color = _STYLES[role]
        canvas.path(shape(x + 6, 10, 4.6), fill=color, stroke=color)
        canvas.text((x + 16, 14), text, size=11)
    canvas.path(segment(296, 10, 320, 10), stroke=INK, width=1.2, dash="5 3")
    canvas.text((326, 14), say("unedited model"), size=11)
