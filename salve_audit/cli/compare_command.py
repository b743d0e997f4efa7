"""``salve-audit compare OLD NEW``: two audits side by side, with statistics; needs no torch."""

from __future__ import annotations

from pathlib import Path

import click

from salve_audit.cli.arguments import AUDIT, check_order
from salve_audit.cli.options import CommaList, SectionedCommand, own_option, verbosity_options
from salve_audit.cli.printing import MAX_ROWS, aligned, set_up_logging
from salve_audit.config import LIMITS, WRITTEN
from salve_audit.gate.rules import MISMATCHES
from salve_audit.results.plain_text import plain

FORMS = ("text", "json", "md")
mismatch_option = own_option(
    LIMITS,
    "--allow-mismatch",
    type=CommaList(MISMATCHES),
    default=(),
    metavar="LIST",
    help=f"What the audits need not share: {', '.join(MISMATCHES)}.",
)


@click.command("compare", cls=SectionedCommand)
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@own_option(
    WRITTEN, "--format", "form", type=click.Choice(FORMS), default="text", show_default=True, help="What stdout is in."
)
@mismatch_option
@verbosity_options
def command(old: Path, new: Path, form: str, allow_mismatch: tuple[str, ...], verbose: int, quiet: bool) -> int:
    """Compare NEW with OLD, audits of two models on the same data: newly fragile and fixed classes first.

    Accuracy, flip medians and image reliance are compared image by image, the rest by the intervals of both; p-values
    are corrected over classes. Exit code 0 whatever changed: `gate --baseline` judges.
    """
    set_up_logging(verbose, quiet)
    check_order("salve-audit compare", (AUDIT, AUDIT), (old, new))
    from salve_audit.compare import compare_audits
    from salve_audit.compare.text import HEAD, about, as_json, as_markdown, comparison_rows, summary

    comparison = compare_audits(old, new, allow_mismatch)
    if form == "json":
        click.echo(as_json(comparison))
    elif form == "md":
        click.echo(as_markdown(comparison))
    else:
        rows = [[plain(cell) for cell in row] for row in comparison_rows(comparison)]
        lines = aligned([list(HEAD), *rows[:MAX_ROWS]])
        if len(rows) > MAX_ROWS:
            lines.append(f"... {len(rows) - MAX_ROWS} more classes: --format json has all")
        lines += ["* beyond chance, corrected over classes", *map(plain, about(comparison)), summary(comparison)]
        click.echo("\n".join(lines))
    return 0
