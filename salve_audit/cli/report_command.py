"""``salve-audit report AUDIT``: render again from audit.json; needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from salve_audit.cli.arguments import AUDIT, check_order
from salve_audit.cli.compare_command import mismatch_option
from salve_audit.cli.options import CommaList, SectionedCommand, own_option, shared_option, verbosity_options
from salve_audit.cli.printing import set_up_logging
from salve_audit.config import WRITTEN
from salve_audit.errors import UsageError
from salve_audit.results.plain_text import plain

RENDERED = ("html", "pdf")


@click.command("report", cls=SectionedCommand)
@click.argument("audit", type=click.Path(path_type=Path))
@own_option(
    WRITTEN,
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for the report.  [default: where audit.json lies]",
)
@own_option(
    WRITTEN,
    "--format",
    "formats",
    type=CommaList(RENDERED),
    default=RENDERED,
    metavar="html,pdf",
    help="What is rendered.  [default: all]",
)
@own_option(
    WRITTEN, "--against", type=click.Path(path_type=Path), metavar="OLD", help="Show what changed since another audit."
)
@mismatch_option
@own_option(
    WRITTEN,
    "--review",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The review file, whose verdicts are shown.",
)
@shared_option("pdf")
@shared_option("paper")
@shared_option("lang")
@shared_option("images")
@shared_option("anonymise", help="Keep names of classes and files out; needs --out, beside which the key lies.")
@verbosity_options
def command(
    audit: Path,
    out: Path | None,
    formats: tuple[str, ...],
    images: bool,
    verbose: int,
    quiet: bool,
    **choices: Any,
) -> int:
    """Render the report of AUDIT (an audit.json or its folder) again."""
    set_up_logging(verbose, quiet)
    check_order("salve-audit report", (AUDIT,), (audit,))
    from salve_audit.audit.again import RenderAgain, render_again

    if not formats:
        raise UsageError("--format", "name at least one of html, pdf")
    if out == Path("-"):
        raise UsageError("--out", "a report cannot go to stdout; name a folder")
    home = render_again(RenderAgain(audit=audit, out=out, formats=formats, no_images=not images, **choices))
    names = ", ".join(f"report.{name}" for name in formats)
    click.echo(f"results in {plain(str(home))}: {names}")
    return 0
