"""Output of the commands: lines of tables for stdout, one line per event on stderr."""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import TYPE_CHECKING, TextIO

import click

from salve_audit.audit import progress
from salve_audit.results.plain_text import plain

if TYPE_CHECKING:
    _TextHandler = logging.StreamHandler[TextIO]
else:
    _TextHandler = logging.StreamHandler  # takes no type before Python 3.11

MAX_ROWS = 40


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


class _BesideBars(_TextHandler):
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


def aligned(rows: list[list[str]]) -> list[str]:
    """Rows as lines, the first one underlined."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "-" * max(len(line) for line in lines), *lines[1:]]
