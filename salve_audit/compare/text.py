"""A comparison as a terminal table, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

from salve_audit.report.changes import ClassChange, Comparison, Difference, Status
from salve_audit.report.numbers import clip, percent, points, strength
from salve_audit.results import AuditResult

HEAD = ("class", "", "image reliance", "change", "accuracy", "change", "alpha_hat flip", "change")


def comparison_rows(comparison: Comparison) -> list[list[str]]:
    """One row per class, newly fragile and fixed ones first; `*`: beyond chance."""
    return [_row(change) for change in comparison.classes]


def _row(change: ClassChange) -> list[str]:
    cells = [clip(change.name, 32), change.status.value]
    for difference, show, change_of in (
        (change.reliance, percent, _points),
        (change.accuracy, percent, _points),
        (change.flip, strength, _share),
    ):
        cells += ["-", "-"] if difference is None else [_pair(difference, show), change_of(difference)]
    return [cell.replace("\u00a0", " ") for cell in cells]


def _pair(difference: Difference, show: Callable[[float], str]) -> str:
    return " -> ".join("not reached" if v is None else show(v) for v in (difference.old, difference.new))


def _points(difference: Difference, unit: str = "") -> str:
    if difference.value is None:
        return "-"
    interval = ""
    if difference.low is not None and difference.high is not None:
        interval = f" ({points(difference.low)} to {points(difference.high)})"
    return f"{points(difference.value)}{unit}{interval}{'*' if difference.is_shown else ''}"


def _share(difference: Difference) -> str:
    return _points(difference, " %")


def summary(comparison: Comparison) -> str:
    """One sentence: how many classes became what."""
    counts = [(len(comparison.of(status)), status.value) for status in Status]
    return ", ".join(f"{n} {word}" for n, word in counts if n) + "."


def about(comparison: Comparison) -> list[str]:
    """What was compared, how, and what differs besides the model."""
    old, new = comparison.old, comparison.new
    lines = [f"{new.model.name} ({new.created}) against {old.model.name} ({old.created})", comparison.pairing]
    return lines + [f"MISMATCH: {mismatch}" for mismatch in comparison.mismatches]


def as_markdown(comparison: Comparison) -> str:
    """A table for a pull request."""
    lines = [f"**{_escape(about(comparison)[0])}**: {summary(comparison)}", ""]
    lines += [_line([name or "status" for name in HEAD]), _line(["---"] * len(HEAD))]
    lines += [_line([_escape(cell) for cell in row]) for row in comparison_rows(comparison)]
    lines += ["", *(_escape(line) for line in about(comparison)[1:]), r"\* beyond chance, corrected over classes."]
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return text


def as_json(comparison: Comparison) -> str:
    """The same numbers for machines."""
    value = {
        "old": _about_audit(comparison.old),
        "new": _about_audit(comparison.new),
        "mismatches": list(comparison.mismatches),
        "pairing": comparison.pairing,
        "classes": [
            {
                "class": change.name,
                "status": change.status.value,
                "image_reliance": _plain(change.reliance),
                "accuracy": _plain(change.accuracy),
                "alpha_hat_flip": _plain(change.flip),
            }
            for change in comparison.classes
        ],
    }
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _about_audit(result: AuditResult) -> dict[str, str]:
    return {"model": result.model.name, "model_sha256": result.provenance.model_sha256, "created": result.created}


def _plain(difference: Difference | None) -> dict[str, object] | None:
    return None if difference is None else dataclasses.asdict(difference)
