"""Values with their intervals, and what nulls reach, as one SVG that a benchmark writes beside its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

LEFT, RIGHT, TOP, LINE = 260, 620, 34, 20
INK, NULLS = "#0072b2", "#d0d0d0"


@dataclass(frozen=True)
class Row:
    """A value, its 95 % interval, and the range of its nulls where there are any."""

    label: str
    value: float
    low: float
    high: float
    nulls: tuple[float, float] | None = None


def draw_intervals(title: str, groups: Mapping[str, Sequence[Row]], ends: tuple[float, float]) -> str:
    """An SVG: a heading for each group, a line for each row, on one axis between `ends` with zero marked."""
    first, last = ends

    def x(value: float) -> float:
        return LEFT + (RIGHT - LEFT) * (min(max(value, first), last) - first) / (last - first)

    parts, y = (
        [f"<title>{escape(title)}</title>", f'<text x="10" y="18" font-weight="bold">{escape(title)}</text>'],
        TOP,
    )
    for heading, rows in groups.items():
        y += LINE
        parts.append(f'<text x="10" y="{y}" fill="#595959">{escape(heading)}</text>')
        for row in rows:
            y += LINE
            parts.append(f'<text x="24" y="{y}">{escape(row.label)}</text>')
            if row.nulls is not None:
                a, b = (x(value) for value in row.nulls)
                parts.append(f'<rect x="{a:.1f}" y="{y - 10}" width="{max(b - a, 1):.1f}" height="12" fill="{NULLS}"/>')
            parts.append(
                f'<line x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{y - 4}" y2="{y - 4}" stroke="{INK}" '
                f'stroke-width="2"/><circle cx="{x(row.value):.1f}" cy="{y - 4}" r="4" fill="{INK}"/>'
            )
    bottom = y + 10
    marks = [first, *([0.0] if first < 0 < last else []), last]
    axis = "".join(
        f'<line x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{TOP}" y2="{bottom}" stroke="#bbb" stroke-dasharray="2 3"/>'
        f'<text x="{x(mark):.1f}" y="{bottom + 16}" text-anchor="middle">{mark:g}</text>'
        for mark in marks
    )
    size = f'viewBox="0 0 640 {bottom + 26}" font-family="sans-serif" font-size="12"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', axis, *parts, "</svg>", ""])
