"""Sizes, times and pages of reports beside what they may be; exit 1 where one is beyond, or page 1 takes two pages.

    python benchmarks/report_limits.py [SCENARIO ...]     mixed hundred thousand

The audits are made up (tests/plain). Times are processor seconds: rendering keeps one core busy, so other work
on the machine counts little.
"""

from __future__ import annotations

import io
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import pypdf

from salve_audit.report import render_html, render_pdf

REPOSITORY = Path(__file__).resolve().parents[1]
MB = 1_000_000


@dataclass(frozen=True)
class Limit:
    """What a scenario's report may be: MB of HTML and PDF, seconds of the PDF, its pages."""

    html: float
    pdf: float
    seconds: float
    pages: int


LIMITS = {
    "mixed": Limit(3, 4, 8, 40),
    "hundred": Limit(15, 15, 60, 60),
    "thousand": Limit(15, 15, 60, 60),
}


def main(names: list[str]) -> int:
    """Print one line for each scenario."""
    sys.path.insert(0, str(REPOSITORY / "tests" / "plain"))
    from report_reliance import build_scenario

    beyond = False
    print(f"{'audit':<10}{'images':>8}{'HTML, MB':>16}{'s':>7}{'PDF, MB':>16}{'s':>14}{'pages':>12}")
    for name in names or list(LIMITS):
        result, limit = build_scenario(name), LIMITS[name]
        start = _processor_seconds()
        page = render_html(result)
        html_seconds, start = _processor_seconds() - start, _processor_seconds()
        pdf = render_pdf(result)
        seconds, paper = _processor_seconds() - start, pypdf.PdfReader(io.BytesIO(pdf)).pages
        beyond |= "How to read it" not in paper[1].extract_text()  # the verdict fits on page 1
        pages = len(paper)
        measured = (len(page.encode()) / MB, len(pdf) / MB, seconds, pages)
        beyond |= any(value > most for value, most in zip(measured, vars(limit).values(), strict=True))
        html_mb, pdf_mb = (
            f"{value:.1f} of {most:g}" for value, most in zip(measured, (limit.html, limit.pdf), strict=False)
        )
        print(f"{name:<10}{page.count('<img '):>8}{html_mb:>16}{html_seconds:>7.1f}{pdf_mb:>16}"
              f"{f'{seconds:.1f} of {limit.seconds:g}':>14}{f'{pages} of {limit.pages}':>12}")  # fmt: skip
    return int(beyond)


def _processor_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
