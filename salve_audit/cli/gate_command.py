"""``salve-audit gate AUDIT``: judge a saved audit under a limit; needs no torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from salve_audit.cli.audit_command import exit_code
from salve_audit.cli.options import verbosity_options
from salve_audit.cli.printing import set_up_logging, verdict_text
from salve_audit.errors import UsageError


@click.command("gate")
@click.argument("audit", type=click.Path(path_type=Path))
@click.option("--fail-under", type=float, metavar="X", help="Smallest acceptable alpha_hat flip median.")
@verbosity_options
def command(audit: Path, fail_under: float | None, verbose: int, quiet: bool) -> int:
    """Judge AUDIT (an audit.json or its folder): exit 1 when a class is fragile.

    Without --fail-under the verdict that was saved with the audit is repeated.
    """
    set_up_logging(verbose, quiet)
    from salve_audit.gate.verdict import judge_flips
    from salve_audit.results import load_audit

    result = load_audit(audit)
    if fail_under is not None:
        if not 0 < fail_under < float("inf"):
            raise UsageError("--fail-under", f"{fail_under} is not a positive number")
        result = dataclasses.replace(result, verdict=judge_flips(result.classes, fail_under))
    if result.verdict.policy is None:
        raise UsageError(str(audit), "was audited without a limit", hint="give one with --fail-under X")
    click.echo(verdict_text(result.verdict))
    return exit_code(result)
