"""Scales, ticks and axes that all charts share."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from salve_audit.report.charts.svg import MUTED, RULE, Canvas, segment

ALPHA_LABEL = "strength α̂ (no unit; at 1 the most coupled coordinate is off)"
_OUTLIER = 20.0
_LINEAR_UP_TO = 8.0  # beyond it, strengths are drawn on a scale of log(1 + α̂)


@dataclass(frozen=True)
class Scale:
    """Maps a domain (low, high) to pixels (start, end); kind is "linear", "log" or "log1p"."""

    low: float
    high: float
    start: float
    end: float
    kind: str = "linear"

    def __call__(self, value: float) -> float:
        low, high, at = (self._bend(v) for v in (self.low, self.high, value))
        return self.start + (at - low) / ((high - low) or 1.0) * (self.end - self.start)

    def clipped(self, value: float) -> float:
        """The pixel of the value, or of the end of the domain that it lies beyond."""
        return self(min(max(value, self.low), self.high))

    def shown(self, value: float | None) -> float | None:
        """The value where it lies on the axis; None where it lies beyond or does not exist."""
        return None if value is None or value > self.high else value

    def _bend(self, value: float) -> float:
        if self.kind == "log":
            return math.log10(value)
        return math.log1p(value) if self.kind == "log1p" else value

    def ticks(self, spacing: float | None = None) -> tuple[float, ...]:
        """Round values inside the domain whose labels are at least `spacing` pixels apart; None: as room allows."""
        spacing = spacing or (44 if abs(self.end - self.start) > 300 else 26)
        candidates = _linear_ticks(self, spacing) if self.kind == "linear" else _log_ticks(self)
        shown: list[float] = []
        for value in candidates:
            if not shown or abs(self(value) - self(shown[-1])) >= spacing:
                shown.append(value)
        return tuple(shown)


def _linear_ticks(scale: Scale, spacing: float) -> list[float]:
    room = max(1.0, abs(scale.end - scale.start) / spacing)
    raw = (scale.high - scale.low) / room or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(scale.low / step - 1e-9), math.floor(scale.high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _log_ticks(scale: Scale) -> list[float]:
    least = scale.low if scale.kind == "log" else max(scale.low, 0.1)
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(scale.high)) + 1)
    few = math.log10(scale.high / least) < 2
    steps = (1, 2, 5) if few else (1, 3)
    values = [m * 10.0**p for p in powers for m in steps]
    start = [0.0] if scale.kind == "log1p" and scale.low == 0 else []
    return start + [v for v in values if least * 0.999 <= v <= scale.high * 1.001]


def alpha_scale(values: Iterable[float | None], start: float, end: float, least: float = 0.0) -> Scale:
    """The scale for strengths, from 0, linear or of log(1 + α̂) where they span more than a linear axis shows.

    It ends at the largest value or at `_OUTLIER` times the median, whichever is less, but not before `least`: a few
    thresholds in the thousands would otherwise flatten all the others. What lies beyond is drawn as an arrow.
    """
    positive = [v for v in values if v is not None and v > 0]
    high = max(min(max(positive), _OUTLIER * statistics.median(positive)) if positive else 1.0, least) * 1.04
    return Scale(0.0, high, start, end, "linear" if high <= _LINEAR_UP_TO else "log1p")


def share_scale(values: Iterable[float], start: float, end: float) -> Scale:
    """The scale for shares close to each other, shown in percent: round ends around the values, within 0 to 1."""
    bounds = list(values) or [0.0, 1.0]
    low, high = min(bounds), max(bounds)
    step = next((s for s in (0.01, 0.02, 0.05, 0.1) if (high - low) / s <= 6), 0.2)
    bottom = max(0.0, math.floor(low / step) * step)
    top = min(1.0, math.ceil(high / step + 1e-9) * step)
    return Scale(bottom, top if top > bottom else bottom + step, start, end)


def tick_label(value: float) -> str:
    """The shortest text of a round value."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}".replace("-", "−")


def percent_label(value: float) -> str:
    """A share on an axis in percent."""
    return f"{100 * value:g}".replace("-", "−")


def draw_x_axis(canvas: Canvas, scale: Scale, span: tuple[float, float], label: str, *, percent: bool = False) -> None:
    """Grid lines over `span` (top, bottom), tick labels and the axis title below."""
    top, bottom = span
    ticks = scale.ticks()
    canvas.path("".join(segment(scale(t), top, scale(t), bottom) for t in ticks), stroke=RULE, width=0.7)
    canvas.path(segment(scale.start, bottom, scale.end, bottom), stroke=MUTED)
    for tick in ticks:
        text = percent_label(tick) if percent else tick_label(tick)
        canvas.text((scale(tick), bottom + 14), text, anchor="middle", size=11)
    if label:
        canvas.text(((scale.start + scale.end) / 2, bottom + 29), label, anchor="middle", fill=MUTED)


def draw_y_axis(canvas: Canvas, scale: Scale, span: tuple[float, float], label: str, *, percent: bool = False) -> None:
    """Grid lines over `span` (left, right), tick labels and the turned axis title on the left."""
    left, right = span
    ticks = scale.ticks(26)
    canvas.path("".join(segment(left, scale(t), right, scale(t)) for t in ticks), stroke=RULE, width=0.7)
    for tick in ticks:
        text = percent_label(tick) if percent else tick_label(tick)
        canvas.text((left - 5, scale(tick) + 3.5), text, anchor="end", size=11)
    if label:
        middle = (scale.start + scale.end) / 2
        x = left - 30
        canvas.text((x, middle), label, anchor="middle", fill=MUTED, turn=-90)
