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
@click.option("--fail-under-redundancy", type=int, metavar="N", help="Smallest acceptable redundancy at depth.")
@click.option("--fail-over-reliance", type=float, metavar="X", help="Largest acceptable reliance at depth, 0..1.")
@verbosity_options
def command(
    audit: Path,
    fail_under: float | None,
    fail_under_redundancy: int | None,
    fail_over_reliance: float | None,
    verbose: int,
    quiet: bool,
) -> int:
    """Judge AUDIT (an audit.json or its folder): exit 1 when a class is fragile.

    Without a limit the verdict that was saved with the audit is repeated.
    """
    set_up_logging(verbose, quiet)
    from salve_audit.gate.verdict import judge
    from salve_audit.limits import Limits
    from salve_audit.results import load_audit

    result = load_audit(audit)
    limits = Limits(fail_under, fail_under_redundancy, fail_over_reliance)
    if limits.policy is not None:
        result = dataclasses.replace(result, verdict=judge(result.classes, limits))
    if result.verdict.policy is None:
        raise UsageError(str(audit), "was audited without a limit", hint="give one with --fail-under X")
    click.echo(verdict_text(result.verdict))
    return exit_code(result)
