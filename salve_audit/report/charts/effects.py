"""Chart of one feature's effect: change of accuracy per class, suppressed on the left, enhanced on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from salve_audit.report.charts.axes import Scale, draw_y_axis
from salve_audit.report.charts.svg import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    RULE,
    SKY,
    VERMILLION,
    Canvas,
    Drawing,
    circle,
    diamond,
    polyline,
    segment,
    shortened,
    square,
    triangle,
)
from salve_audit.report.language import say

WIDTH, TOP, LEFT, RIGHT = 332, 30, 46, 12
PLOT = 118
_LABEL = 22  # room for one number below the axis; where strengths lie closer, the larger one goes without
_STYLES = (
    (BLUE, "", circle),
    (VERMILLION, "6 2.5", square),
    (ORANGE, "2 2", triangle),
    (SKY, "7 2 2 2", diamond),
)
MOST_CLASSES = len(_STYLES)


@dataclass(frozen=True)
class EffectLine:
    """Change of one class's accuracy (a share) at each strength, None where the class has no samples."""

    name: str
    changes: tuple[float | None, ...]


def draw_effects(strengths: Sequence[float], lines: Sequence[EffectLine], title: str) -> Drawing:
    """A panel for one feature; negative strengths suppress, positive ones enhance, 0 leaves the model as it is."""
    desc = say(
        "Change of accuracy in percentage points against the strength; left of 0 suppressed, right of 0 enhanced."
    )
    canvas = Canvas(WIDTH, TOP + PLOT + 40 + 16 * len(lines), title, desc)
    canvas.text((4, 13), shortened(title, WIDTH - 8, 12), size=12, bold=True)
    changes = [v for line in lines for v in line.changes if v is not None]
    reach = max(0.05, *(abs(v) for v in changes)) * 1.1 if changes else 0.05
    y = Scale(max(-1.0, min([-0.02, *changes]) * 1.12), min(1.0, max([0.02, *changes]) + 0.06 * reach), TOP + PLOT, TOP)
    x = Scale(min([-0.02, *strengths]), max([0.02, *strengths]), LEFT + 12, WIDTH - RIGHT - 12)
    places = [x(strength) for strength in strengths]
    draw_y_axis(canvas, y, (LEFT, WIDTH - RIGHT), say("change, points"), percent=True)
    canvas.path(segment(LEFT, y(0), WIDTH - RIGHT, y(0)), stroke=MUTED, width=1)
    for place, strength in zip(places, strengths, strict=True):
        canvas.path(segment(place, TOP, place, TOP + PLOT), stroke=RULE, width=0.5)
        if strength == 0 or all(abs(place - x(s)) >= _LABEL for s in strengths if abs(s) < abs(strength)):
            canvas.text((place, TOP + PLOT + 13), f"{abs(strength):g}", anchor="middle", size=11)
    canvas.text((LEFT, TOP + PLOT + 27), say("← suppressed"), size=11, fill=MUTED)
    canvas.text(((LEFT + WIDTH - RIGHT) / 2, TOP + PLOT + 27), say("strength α̂"), anchor="middle", size=11, fill=MUTED)
    canvas.text((WIDTH - RIGHT, TOP + PLOT + 27), say("enhanced →"), anchor="end", size=11, fill=MUTED)
    for i, (line, style) in enumerate(zip(lines, _STYLES, strict=False)):
        color, dash, shape = style
        points = [(place, y(v)) for place, v in zip(places, line.changes, strict=True) if v is not None]
        canvas.path(polyline(points), stroke=color, width=2, dash=dash)
        canvas.path("".join(shape(px, py, 3.4) for px, py in points), fill=color, stroke=INK, width=0.6)
        base = TOP + PLOT + 45 + 16 * i
        canvas.path(segment(LEFT, base - 4, LEFT + 28, base - 4), stroke=color, width=2, dash=dash)
        canvas.path(shape(LEFT + 14, base - 4, 3.4), fill=color, stroke=INK, width=0.6)
        canvas.text((LEFT + 36, base), shortened(line.name, WIDTH - LEFT - 44))
    return canvas.render()
