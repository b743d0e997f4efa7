"""The choices of whoever renders a report; none of them changes a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from salve_audit.errors import UsageError
from salve_audit.report.changes import Comparison
from salve_audit.report.language import LANGUAGES
from salve_audit.report.view.page import EXTENTS, PAPERS


@dataclass(frozen=True)
class Rendering:
    """How a report is rendered.

    Attributes:
        paper: of the PDF, "a4" or "letter".
        extent: of the PDF, "full" or "short"; short leaves the appendix out.
        language: of all texts.
        reviewed: what a person said of concepts, by index: "accepted", "shortcut" or "unclear".
        review_form: the page asks what is an object and what a shortcut.
        comparison: with an earlier audit, whose changes are shown; None: there is none.
        samples_csv: the per-image table, for the downloads; None: it is not at hand.

    Raises:
        UsageError: a choice is unknown; names the option.
    """

    paper: str = PAPERS[0]
    extent: str = EXTENTS[0]
    language: str = LANGUAGES[0]
    reviewed: Mapping[int, str] = field(default_factory=dict)
    samples_csv: bytes | None = None
    comparison: Comparison | None = None
    review_form: bool = True

    def __post_init__(self) -> None:
        for option, value, known in (
            ("--paper", self.paper, PAPERS),
            ("--pdf", self.extent, EXTENTS),
            ("--lang", self.language, LANGUAGES),
        ):
            if value not in known:
                raise UsageError(option, f"{value!r} is not one of {', '.join(known)}")
