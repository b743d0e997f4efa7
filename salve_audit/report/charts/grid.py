"""Features by classes: the area of a square is the size of the mean code, its fill the sign."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from salve_audit.report.charts.svg import (
    BLUE,
    INK,
    MUTED,
    RULE,
    VERMILLION,
    Canvas,
    Drawing,
    box,
    distinct_labels,
    segment,
    square,
    text_width,
)
from salve_audit.report.language import say

LEFT, RIGHT, LEGEND = 84, 60, 26
TALLEST = 620  # of the rows together: with names, caption and heading the map still fits on one page


@dataclass(frozen=True)
class GridRow:
    """A feature: its mean code per column (None: no samples) and the columns whose dominant feature it is."""

    label: str
    values: tuple[float | None, ...]
    dominant: frozenset[int]


def draw_grid(rows: Sequence[GridRow], columns: Sequence[str], title: str) -> Drawing:
    """The map with one row per feature and one column per class."""
    cell = max(11.0, min(26.0, (680 - LEFT - RIGHT) / max(1, len(columns)), TALLEST / max(1, len(rows))))
    short = distinct_labels(columns, 120, 11)
    head = LEGEND + 16 + 0.87 * max((text_width(name, 11) for name in short), default=20)
    height = head + cell * len(rows) + 22
    desc = say(
        "Rows are features, columns are classes. Filled squares are positive mean codes, open ones negative; the "
    )
    desc += say("area grows with the size. A frame marks the class's dominant feature.")
    canvas = Canvas(max(680, LEFT + cell * len(columns) + RIGHT), height, title, desc)
    right, bottom = LEFT + cell * len(columns), head + cell * len(rows)
    lines = [segment(LEFT, head + cell * i, right, head + cell * i) for i in range(len(rows) + 1)]
    lines += [segment(LEFT + cell * j, head, LEFT + cell * j, bottom) for j in range(len(columns) + 1)]
    canvas.path("".join(lines), stroke=RULE, width=0.6)
    size = min(11, 0.75 * cell)
    for j, name in enumerate(short):
        x, y = LEFT + cell * (j + 0.5) + 3, head - 5
        canvas.text((x, y), name, size=size, turn=-60)
    for i, row in enumerate(rows):
        canvas.text((LEFT - 8, head + cell * (i + 0.5) + 3.5), row.label, anchor="end", size=min(11, cell - 1))
    largest = max((abs(v) for row in rows for v in row.values if v is not None), default=0.0) or 1.0
    _draw_cells(canvas, rows, (cell, head, largest))
    canvas.text(
        ((LEFT + right) / 2, bottom + 15),
        say("class (columns), feature (rows)"),
        anchor="middle",
        fill=MUTED,
        size=11,
    )
    _draw_legend(canvas, largest)
    return canvas.render()


def _draw_cells(canvas: Canvas, rows: Sequence[GridRow], layout: tuple[float, float, float]) -> None:
    cell, head, largest = layout
    positive: list[str] = []
    negative: list[str] = []
    missing, frames = [], []
    for i, row in enumerate(rows):
        y = head + cell * (i + 0.5)
        for j, value in enumerate(row.values):
            x = LEFT + cell * (j + 0.5)
            if j in row.dominant:
                frames.append(box(x - cell / 2 + 0.8, y - cell / 2 + 0.8, cell - 1.6, cell - 1.6))
            if value is None:
                missing.append(segment(x - 2, y - 2, x + 2, y + 2) + segment(x - 2, y + 2, x + 2, y - 2))
                continue
            half = 0.4 * cell * math.sqrt(abs(value) / largest)
            if half >= 0.5:
                (positive if value > 0 else negative).append(square(x, y, half))
    canvas.path("".join(positive), fill=BLUE)
    canvas.path("".join(negative), fill="#ffffff", stroke=VERMILLION, width=1.4)
    canvas.path("".join(missing), stroke=MUTED, width=0.9)
    canvas.path("".join(frames), stroke=INK, width=1.3)


def _draw_legend(canvas: Canvas, largest: float) -> None:
    canvas.path(square(14, 12, 6), fill=BLUE)
    canvas.text((26, 16), say("positive (full size: {largest})", largest=f"{largest:.3g}"), size=11)
    canvas.path(square(182, 12, 6), fill="#ffffff", stroke=VERMILLION, width=1.4)
    canvas.text((194, 16), "negative", size=11)
    canvas.path(box(262, 5, 14, 14), stroke=INK, width=1.3)
    canvas.text((282, 16), say("dominant feature of the class"), size=11)
    canvas.path(segment(450, 10, 454, 14) + segment(450, 14, 454, 10), stroke=MUTED, width=0.9)
    canvas.text((462, 16), say("no samples"), size=11)
