"""``salve-audit compare OLD NEW``: two audits side by side, with statistics; needs no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from salve_audit.cli.gate_command import MISMATCH_NAMES
from salve_audit.cli.options import CommaList, verbosity_options
from salve_audit.cli.printing import MAX_ROWS, aligned, set_up_logging
from salve_audit.errors import ResultError
from salve_audit.gate.comparison import ALIKE, UNKNOWN, Change, compare_audits
from salve_audit.results.plain_text import plain
from salve_audit.results.schema import to_dict


@click.command("compare")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True)
@click.option(
    "--allow-mismatch",
    type=CommaList(MISMATCH_NAMES),
    default=(),
    metavar="LIST",
    help=f"What the audits need not share: {', '.join(MISMATCH_NAMES)}.",
)
@verbosity_options
def command(old: Path, new: Path, form: str, allow_mismatch: tuple[str, ...], verbose: int, quiet: bool) -> int:
    """Compare NEW with OLD, audits of two models on the same data: what got worse, and what better, beyond chance.

    Accuracy and flip medians are compared image by image, the rest by the intervals of both; p-values are corrected
    over classes. Exit code 0 whatever changed: `gate --baseline` judges.
    """
    set_up_logging(verbose, quiet)
    comparison = compare_audits(old, new, allow_mismatch)
    if comparison.refused:
        more = f" (and {len(comparison.refused) - 1} more)" if len(comparison.refused) > 1 else ""
        raise ResultError(str(new), comparison.refused[0] + more)
    if form == "json":
        value = {"changes": [to_dict(change) for change in comparison.changes], "notes": list(comparison.notes)}
        click.echo(json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False))
    else:
        click.echo(render_changes(comparison.changes))
        for note in comparison.notes:
            click.echo(f"note: {plain(note)}")
    return 0


def render_changes(changes: Sequence[Change]) -> str:
    """The changes beyond chance as a table, largest first, and how many others there are."""
    distinct = [change for change in changes if change.word not in (ALIKE, UNKNOWN)]
    distinct.sort(key=lambda change: (change.word, -abs(change.loss or 0.0)))
    alike = sum(change.word == ALIKE for change in changes)
    rest = f"{alike} not distinguished from no change, {len(changes) - alike - len(distinct)} not compared"
    if not distinct:
        return f"no change beyond chance; {rest}"
    rows = [["class", "measure", "loss", "95 % interval", "images", "change"]]
    rows += [_row(change) for change in distinct[:MAX_ROWS]]
    lines = aligned(rows)
    if len(distinct) > MAX_ROWS:
        lines.append(f"... {len(distinct) - MAX_ROWS} more, all in --format json")
    return "\n".join([*lines, rest])


def _row(change: Change) -> list[str]:
    loss = "not reached" if change.loss is None else f"{change.loss:+.3g}"
    low, high = ("inf" if bound is None else f"{bound:+.3g}" for bound in (change.low, change.high))
    name = plain(change.class_name) or "all images"
    return [name[:40], change.measure, loss, f"{low} .. {high}", str(change.n), change.word]
