"""Lanes: a value with its interval on a line as wide as its cell, one per row of a table.

Positions are shares of the width, which SVG takes as percentages: a lane follows the width of its column without
stretching its marks. Drawn alike for the browser and for the PDF renderer.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from salve_audit.report.charts.svg import BLUE, FONT, INK, MUTED, RULE, VERMILLION
from salve_audit.report.language import say
from salve_audit.report.numbers import clean, percent

HEIGHT, AXIS_HEIGHT = 18, 15
PAPER = "#ffffff"
_TONES = {"alarm": (VERMILLION, VERMILLION), "open": (PAPER, VERMILLION), "calm": (BLUE, BLUE), "faint": (PAPER, MUTED)}
_INSET, _SPAN = 0.02, 0.96  # of the width, so that marks at the ends are whole


@dataclass(frozen=True)
class Lane:
    """One row: positions in 0..1; None: beyond the right end, or not there.

    Attributes:
        description: the same in words.
        chance: the grey tick.
        others: further small ticks, of deltas or earlier audits.
    """

    value: float | None
    low: float | None
    high: float | None
    tone: str
    description: str
    chance: float | None = None
    limit: float | None = None
    before: float | None = None


def draw_lane(lane: Lane) -> Markup:
    """The lane as an SVG that fills its cell."""
    middle = HEIGHT / 2
    fill, stroke = _TONES[lane.tone]
    parts = [_line(0, 1, middle, RULE, 1)]
    if lane.limit is not None:
        parts.append(_upright(lane.limit, 0, HEIGHT, INK, 1.2, ' stroke-dasharray="3 2"'))
    if lane.chance is not None:
        parts.append(_upright(lane.chance, middle - 5, middle + 5, MUTED, 2.4))
    if lane.low is not None:
        end = 1.0 if lane.high is None else lane.high
        parts.append(_line(lane.low, end, middle, stroke, 2.6))
    if lane.before is not None:
        parts.append(_dot(lane.before, middle, 3.4, PAPER, MUTED))
    if lane.value is not None:
        parts.append(_dot(lane.value, middle, 4.4, fill, stroke))
    return _svg(HEIGHT, lane.description, parts)


def draw_percent_axis(step: int = 25) -> Markup:
    """The axis of shares, every `step` %: numbers alone but for the last, so that none touches the next."""
    return draw_lane_axis([(v / 100, str(v)) for v in range(0, 100, step)] + [(1.0, percent(1.0, 1))])


def draw_lane_axis(ticks: Sequence[tuple[float, str]]) -> Markup:
    """The labels above the lanes."""
    parts = []
    for i, (position, label) in enumerate(ticks):
        anchor = "start" if position <= 0.01 else "end" if position >= 0.99 else "middle"
        minor = ' class="minor"' if i % 2 else ""  # left out on narrow screens
        parts.append(
            f'<text x="{_at(position)}" y="11" font-size="11" text-anchor="{anchor}" fill="{MUTED}"{minor}>'
            f"{html.escape(label)}</text>"
        )
    about = say("Axis from {low} to {high}", low=ticks[0][1], high=ticks[-1][1]) if ticks else ""
    return _svg(AXIS_HEIGHT, about, parts)


def _svg(height: float, description: str, parts: Sequence[str]) -> Markup:
    about = (
        f' role="img" aria-label="{html.escape(clean(description), quote=True)}"'
        if description
        else ' aria-hidden="true"'
    )
    title = f"<title>{html.escape(clean(description))}</title>" if description else ""
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" class="lane" width="100%" height="{height:g}"{about}'
    return Markup(f'{opening} font-family="{FONT}">{title}{"".join(parts)}</svg>')


def _at(position: float) -> str:
    return f"{100 * (_INSET + _SPAN * min(1.0, max(0.0, position))):.1f}%"


def _line(start: float, end: float, y: float, stroke: str, width: float) -> str:
    return f'<line x1="{_at(start)}" x2="{_at(end)}" y1="{y:g}" y2="{y:g}" stroke="{stroke}" stroke-width="{width:g}"/>'


def _upright(at: float, top: float, bottom: float, stroke: str, width: float, extra: str = "") -> str:
    x = _at(at)
    return f'<line x1="{x}" x2="{x}" y1="{top:g}" y2="{bottom:g}" stroke="{stroke}" stroke-width="{width:g}"{extra}/>'


def _dot(at: float, y: float, radius: float, fill: str, stroke: str) -> str:
    return f'<circle cx="{_at(at)}" cy="{y:g}" r="{radius:g}" fill="{fill}" stroke="{stroke}" stroke-width="1.6"/>'
