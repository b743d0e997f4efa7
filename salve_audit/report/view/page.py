"""The data that the templates receive, finished texts, tables and figures, and how much of it a medium can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from salve_audit.report.charts.svg import Drawing
from salve_audit.report.tables import Table

FRONT_ROWS = 10  # classes on the first page; all of them follow in their own section
CHART_ROWS = 20  # classes in one image: a taller one would not fit on a page
FRONT_WARNINGS = 5


@dataclass(frozen=True)
class Medium:
    """A medium that shows the report, HTML or PDF, and how much it can hold.

    Attributes:
        numbers: tables behind the figures are included.
        listed: names in one cell of a table.
        strips: galleries of features, and of classes.
        tiles: images in one of them.
    """

    name: str
    table_rows: int
    chart_classes: int
    numbers: bool
    listed: int
    strips: int
    tiles: int


HTML = Medium("html", 1000, 50, True, 1000, 1000, 1000)
PDF = Medium("pdf", 40, 30, False, 4, 10, 6)


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
    """A numbered section; `parts` is what its template prints."""

    anchor: str
    heading: str
    template: str
    parts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Banner:
    """The verdict: kind is "pass", "fail" or "none", for the style."""

    kind: str
    word: str
    sentence: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Front:
    """The first page."""

    facts: tuple[tuple[str, str], ...]
    banner: Banner
    warnings: tuple[str, ...]
    more_warnings: str
    table: Table
    table_note: str
    figure: Figure | None
    has_image_reliance: bool  # image reliance was measured as well


@dataclass(frozen=True)
class ReportView:
    """The whole report."""

    title: str
    model: str
    verdict: str
    created: str  # ISO 8601
    date: str
    tool: str
    is_demo: bool
    medium: Medium
    front: Front
    sections: tuple[Section, ...]
