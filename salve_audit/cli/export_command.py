"""``salve-audit export AUDIT --to FORM [DIR]``: a saved audit for other tools; needs no torch."""

from __future__ import annotations

from pathlib import Path

import click

from salve_audit.cli.arguments import AUDIT, check_order
from salve_audit.cli.options import SectionedCommand, own_option, verbosity_options
from salve_audit.cli.printing import set_up_logging
from salve_audit.config import WRITTEN
from salve_audit.results.plain_text import plain

PATH = click.Path(path_type=Path)
FORMS = ("model-card", "csv", "mlflow")


@click.command("export", cls=SectionedCommand)
@click.argument("audit", type=PATH)
@click.argument("folder", type=PATH, required=False, metavar="[DIR]")
@own_option(WRITTEN, "--to", "form", type=click.Choice(FORMS), required=True, help="The form.")
@verbosity_options
def command(audit: Path, folder: Path | None, form: str, verbose: int, quiet: bool) -> int:
    """Write AUDIT (an audit.json or its folder) in the form of other tools into DIR.

    \b
      model-card  model-card.md: a Markdown section, and model-index metadata as Hugging Face reads it
      csv         tables of classes, concepts, edits and images  [DIR: where audit.json lies, for both]
      mlflow      a run that `mlflow ui --backend-store-uri DIR` shows  [DIR: mlruns]
    """
    set_up_logging(verbose, quiet)
    check_order("salve-audit export", (AUDIT,), (audit,))
    from salve_audit.export.run import export_audit

    for path in export_audit(audit, form, folder):
        click.echo(f"written: {plain(str(path))}")
    return 0
