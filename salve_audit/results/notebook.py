"""Results in a notebook: a small HTML table with a bar chart in it, no script, under 50 kB whatever was audited."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from salve_audit.results.classes import ClassReliance
from salve_audit.results.plain_text import plain
from salve_audit.results.view import rank_classes

if TYPE_CHECKING:
    from salve_audit.results.audit import AuditResult

MOST_ROWS = 20
LONGEST = 60  # characters of a name
WIDTH, HEIGHT = 160, 14  # pixels of a bar
BAR, SPAN, FRAME = "#b5651d", "#333333", "#bbbbbb"  # seen on light and dark pages
HEAD = ("class", "n", "accuracy", "image reliance (95 %)", "", "redundancy", "flips at α̂", "flags")


def render_result(result: AuditResult) -> str:
    """A table of the classes that depend most on one thing, with bars of image reliance."""
    n, n_correct = result.counts
    share = f"{n_correct / n:.1%}" if n else "–"
    ranked = rank_classes(result.classes)
    rows = [_row(record) for record in ranked[:MOST_ROWS]]
    head = "".join(f"<th style='text-align:left'>{text}</th>" for text in HEAD)
    more = (
        f" The {len(ranked) - MOST_ROWS} other classes are in <code>to_frame()</code>."
        if len(ranked) > MOST_ROWS
        else ""
    )
    return (
        f"<div><b>{_text(result.model.name)}</b>: {n:,} images, accuracy {share}, verdict: {result.verdict.word}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        f"<small>Image reliance: share of a class's images that are misclassified without the one thing it depends on "
        f"most.{more}</small></div>"
    )


def _row(record: ClassReliance) -> str:
    reliance, median = record.image_reliance, record.alpha_hat.flip.median
    if reliance is None:
        shown, bar, redundancy = "not measured", "", "–"
    else:
        kind = f" {html.escape(reliance.kind)}" if reliance.kind else ""
        shown = f"{reliance.reliance:.0%} ({reliance.low:.0%} – {reliance.high:.0%}){kind}"
        bar = _bar(reliance.reliance, reliance.low, reliance.high)
        beyond = reliance.redundancy is None
        redundancy = f"over {reliance.redundancy_limit}" if beyond else str(reliance.redundancy)
    cells = [
        _text(record.name), str(record.n), f"{record.accuracy:.1%}", shown, bar, redundancy,
        "not reached" if median is None else f"{median:.3g}", html.escape(", ".join(record.flags)),
    ]  # fmt: skip
    return "<tr>" + "".join(f"<td style='text-align:left'>{cell}</td>" for cell in cells) + "</tr>"


def _bar(value: float, low: float, high: float) -> str:
    """A bar over 0..1 with its interval."""
    ends = [min(max(part, 0.0), 1.0) * WIDTH for part in (value, low, high)]
    return (
        f"<svg width='{WIDTH}' height='{HEIGHT}' role='img' aria-label='{value:.0%}'>"
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='none' stroke='{FRAME}'/>"
        f"<rect width='{ends[0]:.1f}' height='{HEIGHT}' fill='{BAR}'/>"
        f"<line x1='{ends[1]:.1f}' x2='{ends[2]:.1f}' y1='{HEIGHT / 2}' y2='{HEIGHT / 2}' stroke='{SPAN}' "
        "stroke-width='2'/></svg>"
    )


def _text(name: str) -> str:
    shown = plain(name)
    return html.escape(shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…")
