"""``salve-audit report AUDIT``: render again from audit.json; needs no torch."""

from __future__ import annotations

from pathlib import Path

import click

from salve_audit.cli.options import CommaList, verbosity_options
from salve_audit.cli.printing import set_up_logging
from salve_audit.errors import UsageError
from salve_audit.results.plain_text import plain

RENDERED = ("html", "pdf")


@click.command("report")
@click.argument("audit", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="[default: where audit.json lies]")
@click.option("--format", "formats", type=CommaList(RENDERED), default=RENDERED, metavar="html,pdf")
@verbosity_options
def command(audit: Path, out: Path | None, formats: tuple[str, ...], verbose: int, quiet: bool) -> int:
    """Render the report of AUDIT (an audit.json or its folder) again."""
    set_up_logging(verbose, quiet)
    from salve_audit.audit.publish import check_writable, publishing
    from salve_audit.report import render_html, render_pdf
    from salve_audit.results import load_audit

    if not formats:
        raise UsageError("--format", "name at least one of html, pdf")
    if out == Path("-"):
        raise UsageError("--out", "a report cannot go to stdout; name a folder")
    result = load_audit(audit)
    home = out or (audit if audit.is_dir() else audit.parent)
    check_writable(home)
    source = (audit / "audit.json" if audit.is_dir() else audit).read_bytes()
    with publishing(home, replaces=()) as stage:
        if "html" in formats:
            (stage / "report.html").write_text(render_html(result), encoding="utf-8")
        if "pdf" in formats:
            (stage / "report.pdf").write_bytes(render_pdf(result, source))
    names = ", ".join(f"report.{name}" for name in formats)
    click.echo(f"results in {plain(str(home))}: {names}")
    return 0
