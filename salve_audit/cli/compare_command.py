"""``salve-audit compare OLD NEW``: two audits side by side, with statistics; needs no torch."""

from __future__ import annotations

from pathlib import Path

import click

from salve_audit.cli.options import verbosity_options
from salve_audit.cli.printing import MAX_ROWS, aligned, plain, set_up_logging


@click.command("compare")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(("table", "json", "md")), default="table", help="[default: table]")
@click.option("--allow-mismatch", is_flag=True, help="Compare although more than the model differs; names what does.")
@verbosity_options
def command(old: Path, new: Path, form: str, allow_mismatch: bool, verbose: int, quiet: bool) -> int:
    """Compare two audits (audit.json files or their folders): newly fragile and fixed classes first.

    Differences are paired over images where both audits saw the same ones and samples.parquet lies beside both.
    """
    set_up_logging(verbose, quiet)
    from salve_audit.compare import compare_audits
    from salve_audit.compare.text import HEAD, about, as_json, as_markdown, comparison_rows, summary

    comparison = compare_audits(old, new, allow_mismatch=allow_mismatch)
    if form == "json":
        click.echo(as_json(comparison))
    elif form == "md":
        click.echo(as_markdown(comparison))
    else:
        rows = [[plain(cell) for cell in row] for row in comparison_rows(comparison)]
        lines = aligned([list(HEAD), *rows[:MAX_ROWS]])
        if len(rows) > MAX_ROWS:
            lines.append(f"... {len(rows) - MAX_ROWS} more classes: --format json has all")
        lines += ["* the 95 % interval excludes no change", *map(plain, about(comparison)), summary(comparison)]
        click.echo("\n".join(lines))
    return 0
