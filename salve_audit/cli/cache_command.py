"""``salve-audit cache list|clear|path``: what audits have left for the next one; needs no torch."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from salve_audit.cli.command_group import CommandGroup
from salve_audit.cli.options import shared_option
from salve_audit.cli.printing import aligned
from salve_audit.errors import OutputError, UsageError
from salve_audit.results.plain_text import plain

UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
SHOWN_KEY = 12  # characters by which an entry is named


@click.group("cache", cls=CommandGroup)
def command() -> None:
    """List or clear what earlier audits have left for the next one: activations, results of stages, reports.

    A cache is bounded by --cache-limit of an audit; beyond it, what was least recently used is removed.
    """


def cache_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--cache, as for an audit."""
    return shared_option("cache", unset="the user's cache folder")(command)


@command.command("path")
@cache_option
def show_path(cache: str | None) -> int:
    """Print the folder."""
    click.echo(str(_folder(cache)))
    return 0


@command.command("list")
@cache_option
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def show_entries(cache: str | None, as_json: bool) -> int:
    """List all entries, the most recently used first, with their sizes."""
    from salve_audit.audit.cache_folder import list_entries

    folder = _folder(cache)
    entries = list_entries(folder)
    if as_json:
        listed = [
            {
                "stage": entry.stage,
                "key": entry.key,
                "bytes": entry.n_bytes,
                "used": entry.used,
                "about": entry.describe(),
                "path": str(entry.path),
            }
            for entry in entries
        ]
        click.echo(json.dumps(listed, indent=1))
        return 0
    if not entries:
        click.echo(f"{plain(str(folder))}: nothing is kept there")
        return 0
    header = ["stage", "size", "last used", "key", "of"]
    rows = [
        [
            plain(entry.stage),
            _size(entry.n_bytes),
            _ago(time.time() - entry.used),
            plain(entry.key[:SHOWN_KEY]),
            plain(entry.describe()),
        ]
        for entry in entries
    ]
    click.echo("\n".join(aligned([header, *rows])))
    click.echo(f"{_count(len(entries))}, {_size(sum(entry.n_bytes for entry in entries))} in {plain(str(folder))}")
    return 0


@command.command("clear")
@click.argument("keys", nargs=-1)
@cache_option
@click.option("--older-than", metavar="AGE", help="Only what was not used for so long: 12h, 7d, 4w.")
@click.option("--stage", "stages", multiple=True, metavar="NAME", help="Only this stage; may be given several times.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed.")
def clear(
    keys: tuple[str, ...], cache: str | None, older_than: str | None, stages: tuple[str, ...], dry_run: bool
) -> int:
    """Remove all entries, or those with the given KEYS, as `cache list` shows them. Running audits go on."""
    from salve_audit.audit.cache_folder import list_entries, remove_entry

    folder, latest = _folder(cache), time.time() - (0.0 if older_than is None else parse_age(older_than))
    entries = list_entries(folder)
    _check_known("--stage", stages, [entry.stage for entry in entries])
    chosen = [
        entry
        for entry in entries
        if (older_than is None or entry.used <= latest)
        and (not stages or entry.stage in stages)
        and (not keys or any(entry.key.startswith(key) for key in keys))
    ]
    unmatched = [key for key in keys if not any(entry.key.startswith(key) for entry in entries)]
    if unmatched:
        raise UsageError(unmatched[0], "no entry of the cache has such a key", hint="salve-audit cache list")
    removed = chosen if dry_run else [entry for entry in chosen if remove_entry(entry)]
    verb = "would be removed" if dry_run else "removed"
    click.echo(f"{_count(len(removed))} {verb}, {_size(sum(entry.n_bytes for entry in removed))}")
    if len(removed) < len(chosen):
        raise OutputError(str(folder), f"{_count(len(chosen) - len(removed))} could not be removed")
    return 0


def parse_age(text: str) -> float:
    """Seconds of an age such as "7d".

    Raises:
        UsageError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.strip())
    if match is None or match[2] not in UNITS:
        raise UsageError("--older-than", f"{text!r} is no age", hint=f"a number and one of {', '.join(UNITS)}: 7d")
    return float(match[1]) * UNITS[match[2]]


def _check_known(option: str, named: Sequence[str], there: Sequence[str]) -> None:
    unknown = [name for name in named if name not in there]
    if unknown:
        listed = ", ".join(sorted(Counter(there))) or "nothing"
        raise UsageError(option, f"nothing of {unknown[0]!r} is kept", hint=f"there is: {listed}")


def _folder(cache: str | None) -> Path:
    from salve_audit.audit.cache_folder import find_cache_dir

    folder = find_cache_dir(cache)
    if folder is None:
        raise UsageError("cache", "there is no home folder that it could lie in", hint="name it with --cache DIR")
    return folder


def _count(n: int) -> str:
    return f"{n:,} {'entry' if n == 1 else 'entries'}"


def _size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} GB"


def _ago(seconds: float) -> str:
    unit, length = next(((u, n) for u, n in reversed(UNITS.items()) if u != "w" and seconds >= n), ("s", 1))
    return f"{max(seconds, 0) / length:.0f} {unit} ago"
