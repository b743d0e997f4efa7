"""What changed since another audit: newly fragile and fixed classes first, each with its differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from salve_audit.report.changes import ClassChange, Comparison, Difference, Status
from salve_audit.report.charts.lanes import Lane, draw_lane, draw_percent_axis
from salve_audit.report.language import plural, say
from salve_audit.report.numbers import name, percent, points, strength
from salve_audit.report.view.page import ClassName, Medium, Section

TONES = {Status.NEWLY_FRAGILE: "alarm", Status.STILL_FRAGILE: "alarm", Status.FIXED: "calm"}
MOST = {"html": 2000, "pdf": 40}


@dataclass(frozen=True)
class ChangeRow:
    """One class: its name, or its label where it has no card any more, and its differences in words."""

    name: ClassName | None
    label: str
    status: str
    tone: str
    lane: Markup
    reliance: str
    accuracy: str
    flip: str


def build_changes(
    comparison: Comparison, names: Mapping[str, ClassName], labels: Mapping[str, str], medium: Medium
) -> Section:
    """The section that opens a report against another audit."""
    rows = [_row(change, names, labels) for change in comparison.classes]
    shown = rows[: MOST[medium.name]]
    old = comparison.old
    parts = {
        "about": say("Against {model} of {created}.", model=old.model.name, created=old.created),
        "headline": _headline(comparison),
        "mismatches": comparison.mismatches,
        "pairing": say(comparison.pairing),
        "axis": draw_percent_axis(50),  # its lanes are narrow
        "rows": shown,
        "cut": say("The first {n} of {total}.", n=len(shown), total=len(rows)) if len(shown) < len(rows) else "",
    }
    return Section("changes", say("What changed"), "changes.html.j2", parts)


def since(comparison: Comparison) -> str:
    """What changed in one sentence, for the first page."""
    return say("Compared with {model}: {what}", model=name(comparison.old.model.name), what=_headline(comparison))


def _headline(comparison: Comparison) -> str:
    worse, better = len(comparison.of(Status.NEWLY_FRAGILE)), len(comparison.of(Status.FIXED))
    if not worse and not better:
        return say("No class became fragile, and none was fixed.")
    said = [say("newly fragile: {n}", n=plural(worse, "class", "classes")),
            say("fixed: {n}", n=plural(better, "class", "classes"))]  # fmt: skip
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def _row(change: ClassChange, names: Mapping[str, ClassName], labels: Mapping[str, str]) -> ChangeRow:
    label = labels.get(change.name, change.name)
    reliance = change.reliance
    new = change.new.image_reliance if change.new is not None else None
    lane = Lane(
        None if new is None else new.reliance,
        None if new is None else new.low,
        None if new is None else new.high,
        TONES.get(change.status, "calm"),
        f"{label}: {_text(reliance, _share, points)}",
        before=None if reliance is None else reliance.old,
    )
    return ChangeRow(
        names.get(label),
        label,
        say(change.status.value),
        TONES.get(change.status, ""),
        draw_lane(lane),
        _text(reliance, _share, points),
        _text(change.accuracy, _share, points),
        _text(change.flip, strength, _percent),
    )


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value, 100)


def _percent(value: float) -> str:
    return f"{points(value)} %"


def _text(part: Difference | None, show: Callable[[float | None], str], change: Callable[[float], str]) -> str:
    """Old and new value, and their difference with its interval."""
    if part is None:
        return "–"
    text = f"{show(part.old)} → {show(part.new)}"
    if part.value is None:
        return text
    interval = ""
    if part.low is not None and part.high is not None:
        interval = f" ({change(part.low)} to {change(part.high)})"
    return f"{text}, {change(part.value)}{interval}"
