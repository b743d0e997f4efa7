"""``salve-audit gate AUDIT``: judge a saved audit under a limit; needs no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from salve_audit.cli.audit_command import exit_code
from salve_audit.cli.options import shared_option, verbosity_options
from salve_audit.cli.printing import set_up_logging, verdict_text
from salve_audit.errors import UsageError
from salve_audit.gate.limits import RULES, Limits


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The limits of a policy, as for the audit."""
    for rule in reversed(RULES):
        command = shared_option(rule.key)(command)
    return command


@click.command("gate")
@click.argument("audit", type=click.Path(path_type=Path))
@limit_options
@verbosity_options
def command(audit: Path, verbose: int, quiet: bool, **limit_values: Any) -> int:
    """Judge AUDIT (an audit.json or its folder): exit 1 when a class is fragile.

    Without a limit the verdict that was saved with the audit is repeated.
    """
    set_up_logging(verbose, quiet)
    from salve_audit.gate.verdict import judge
    from salve_audit.results import load_audit

    result = load_audit(audit)
    limits = Limits(**limit_values)
    if limits.policy is not None:
        result = dataclasses.replace(result, verdict=judge(result.classes, limits))
    if result.verdict.policy is None:
        raise UsageError(str(audit), "was audited without a limit", hint="give one with --fail-under X")
    click.echo(verdict_text(result.verdict))
    return exit_code(result)
