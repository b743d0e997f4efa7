"""Output of the commands: plain tables on stdout, one line per event on stderr."""

from __future__ import annotations

import datetime
import json
import logging
import sys
from collections.abc import Sequence
from typing import TextIO

import click

from salve_audit.audit import progress
from salve_audit.results import AuditResult, ClassReliance
from salve_audit.results.plain_text import plain

MAX_ROWS = 40
MAX_NAME = 32


def set_up_logging(verbose: int, quiet: bool, as_json: bool = False) -> None:
    """Log to stderr: stages by default, everything with -v, warnings only with --quiet; as text or as JSON."""
    handler = _BesideBars(sys.stderr)
    handler.setFormatter(_JsonFormatter() if as_json else _LineFormatter())
    package = logging.getLogger("salve_audit")
    package.handlers[:] = [handler]
    package.propagate = False
    package.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.WARNING)
    progress.log.setLevel(logging.WARNING if quiet else logging.DEBUG if as_json else logging.INFO)
    logging.getLogger("salve_audit.settings").setLevel(logging.WARNING if quiet else logging.INFO)
    logging.getLogger("salve_audit.demo").setLevel(logging.WARNING if quiet else logging.INFO)


def say_end(kind: str, message: str, hint: str | None = None) -> None:
    """The last line on stderr, an error or an interrupt, in the form that the lines before it had."""
    handlers = logging.getLogger("salve_audit").handlers
    if handlers and isinstance(handlers[0].formatter, _JsonFormatter):
        line = json.dumps({"time": _now(), "level": "error", "event": kind, "message": message, "hint": hint})
        click.echo(line, err=True)
        return
    click.echo(f"{kind}: {plain(message)}", err=True)
    if hint:
        click.echo(f"hint: {plain(hint)}", err=True)


class _BesideBars(logging.StreamHandler[TextIO]):
    """Lines that do not run into a bar that is drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        if "tqdm" not in sys.modules:
            super().emit(record)
            return
        from tqdm import tqdm

        with tqdm.external_write_mode(file=sys.stderr):
            super().emit(record)


class _LineFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        return "\n".join(prefix + plain(line) for line in getattr(record, "lines", (record.getMessage(),)))


class _JsonFormatter(logging.Formatter):
    """One JSON object per line, as docs/log-json.md describes."""

    def format(self, record: logging.LogRecord) -> str:
        level = record.levelname.lower()
        event = getattr(record, "event", "warning" if record.levelno >= logging.WARNING else "message")
        content = {"time": _now(), "level": level, "event": event, "message": record.getMessage()}
        return json.dumps({**content, **getattr(record, "fields", {})})


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def class_table(result: AuditResult) -> str:
    """The verdict table as text, most fragile first."""
    outcomes = result.verdict.outcomes
    header = ["class", "n", "accuracy", "feature", "alpha_hat flip", "95 % interval", "feature redundancy", "flags"]
    rows = [_row(class_info, outcomes.get(class_info.name)) for class_info in _by_fragility(result.classes)]
    lines = aligned([header, *rows[:MAX_ROWS]])
    if len(rows) > MAX_ROWS:
        lines.append(f"... {len(rows) - MAX_ROWS} more classes, all in audit.json")
    return "\n".join(lines)


def _by_fragility(classes: Sequence[ClassReliance]) -> list[ClassReliance]:
    def key(class_info: ClassReliance) -> tuple[bool, float, int]:
        median = class_info.alpha_hat.flip.median
        return (median is None, median or 0.0, class_info.index)

    return sorted(classes, key=key)


def _row(class_info: ClassReliance, outcome: str | None) -> list[str]:
    name = plain(class_info.name)
    flags = [*([outcome] if outcome in ("fail", "undecided") else []), *class_info.flags]
    return [
        name if len(name) <= MAX_NAME else name[: MAX_NAME - 3] + "...",
        str(class_info.n),
        f"{100 * class_info.accuracy:.1f} %",
        str(class_info.dominant_feature),
        _number(class_info.alpha_hat.flip.median),
        _interval(*class_info.judged_interval),
        str(class_info.feature_redundancy)
        if class_info.feature_redundancy is not None
        else f"none of {class_info.feature_redundancy_limit}",
        ", ".join(flags) or "-",
    ]


def _number(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.3g}"


def _interval(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return "-"
    return f"{'?' if low is None else f'{low:.3g}'} .. {'inf' if high is None else f'{high:.3g}'}"


def aligned(rows: list[list[str]]) -> list[str]:
    """Rows as lines, the first one underlined."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "-" * max(len(line) for line in lines), *lines[1:]]
