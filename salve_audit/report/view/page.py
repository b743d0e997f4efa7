"""The data that the templates receive, finished texts, tables and figures, and how much of it a medium can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from salve_audit.report.backing import Backing
from salve_audit.report.charts.svg import Drawing
from salve_audit.report.sentences import Tick
from salve_audit.report.tables import Shown, Table

FRONT_ROWS = 10  # classes on the first page where there are many; all of them follow in the index
CHART_ROWS = 20  # classes in one image: a taller one would not fit on a page


@dataclass(frozen=True)
class Medium:
    """A medium that shows the report, HTML or PDF, and how much it can hold.

    Attributes:
        table_rows: of a table; what is left out is said, and is in audit.json.
        detail_rows: of tables that list features, and properties of images.
        numbers: tables behind the figures are included.
        listed: names in one cell of a table.
        strips: galleries of features, and of classes.
        tiles: images in one of them.
        cards: classes with a card of their own.
        all_cards: so do classes that depend on nothing that was found.
    """

    name: str
    table_rows: int
    detail_rows: int
    chart_classes: int
    numbers: bool
    listed: int
    strips: int
    tiles: int
    cards: int
    all_cards: bool


HTML = Medium("html", 1000, 1000, 50, True, 1000, 1000, 1000, 60, True)
PDF = Medium("pdf", 40, 40, 30, False, 4, 10, 4, 20, False)
SHORT_ROWS = 8  # of such tables in a short PDF
INDEX = "index"  # anchor of the section, or of what stands in its place
PAPERS = ("a4", "letter")
EXTENTS = ("full", "short")


@dataclass(frozen=True)
class Figure:
    """One or more charts under one caption, with the same data as a table where the medium has room.

    Attributes:
        source: where the data lie in audit.json.
        panels: the charts are small and stand side by side.
        narrow: the one chart again, for narrow screens.
    """

    anchor: str
    caption: str
    charts: tuple[Drawing, ...]
    source: str
    panels: bool = False
    legend: Drawing | None = None
    note: str = ""
    narrow: Drawing | None = None
    numbers: Table | None = None


@dataclass(frozen=True)
class Section:
    """A numbered section; `parts` is what its template prints, `backings` what stands behind its sentences."""

    anchor: str
    heading: str
    template: str
    parts: Mapping[str, Any] = field(default_factory=dict)
    backings: tuple[Backing, ...] = ()


@dataclass(frozen=True)
class ClassName:
    """A class as the templates print it: its label, the whole name where that is longer, the address of its card."""

    label: str
    full: str
    anchor: str


@dataclass(frozen=True)
class Violation:
    """A rule that a class breaks."""

    class_name: str
    text: str


@dataclass(frozen=True)
class Banner:
    """The verdict: kind is "pass", "fail" or "none", for the style; violations come worst first."""

    kind: str
    word: str
    sentence: str
    violations: tuple[Violation, ...] = ()
    more: str = ""
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class FrontRow:
    """One class on the first page.

    Attributes:
        lane: the drawing of value, interval, chance and limit.
        value: image reliance, or the flip median where that was not measured.
        crop: what the class depends on; None: no image may or can be shown.
        crop_note: how often it is seen, or what it is.
        second: the flip median, or the accuracy.
        tone: "alarm", "open" or "calm".
        chips: outcome of the policy and review.
    """

    name: ClassName
    lane: Markup
    value: str
    interval: str
    crop: Shown | None
    crop_note: str
    second: str
    tone: str
    chips: tuple[str, ...]


@dataclass(frozen=True)
class FrontGroup:
    """Classes of which the same is known."""

    key: str
    title: str
    total: str
    note: str
    rows: tuple[FrontRow, ...]
    more: str


@dataclass(frozen=True)
class NextStep:
    """A line of "do next": the classes that it is for, how many more there are, what to do, and the command."""

    names: tuple[ClassName, ...]
    more: str
    action: str
    command: str


@dataclass(frozen=True)
class Front:
    """The first page."""

    kicker: str
    facts: tuple[str, ...]
    headline: str
    also: tuple[str, ...]
    banner: Banner | None
    caption: str
    heads: tuple[str, ...]
    axis: Markup
    groups: tuple[FrontGroup, ...]
    histogram: Figure | None
    note: str
    next_steps: tuple[NextStep, ...]
    is_roomy: bool
    is_dense: bool
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class ReportView:
    """The whole report."""

    title: str
    model: str
    verdict: str
    description: str
    created: str  # ISO 8601
    date: str
    tool: str
    is_demo: bool
    medium: Medium
    paper: str
    language: str
    front: Front
    sections: tuple[Section, ...]
    appendix: tuple[Section, ...]
    front_backings: tuple[Backing, ...]
    backings: tuple[Backing, ...]  # of the first page and all sections
    names: Mapping[str, ClassName]
    evidence_page: str  # address; "": not known
