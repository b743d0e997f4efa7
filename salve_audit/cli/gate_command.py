"""``salve-audit gate AUDIT``: judge a saved audit under a policy; needs no torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from salve_audit.cli.arguments import AUDIT, check_order
from salve_audit.cli.audit_command import exit_code
from salve_audit.cli.class_table import class_table
from salve_audit.cli.options import CommaList, SectionedCommand, own_option, shared_option, verbosity_options
from salve_audit.cli.printing import set_up_logging
from salve_audit.config import AUDITED, LIMITS, WRITTEN
from salve_audit.errors import UsageError
from salve_audit.gate.output.formats import FORMATS, clear_targets, detect_targets, parse_target, write_verdict
from salve_audit.gate.rules import MISMATCHES, SHORTHANDS
from salve_audit.results.plain_text import plain

if TYPE_CHECKING:
    from salve_audit.results import AuditResult

DEFAULT_POLICY = "salve-policy.toml"
_PATH = click.Path(path_type=Path)


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Policy, baseline and the limits that are shorthands for rules, as for the audit."""
    for name in reversed(("policy", "baseline", *SHORTHANDS)):
        command = shared_option(name)(command)
    return command


@click.command("gate", cls=SectionedCommand)
@click.argument("audit", type=_PATH)
@limit_options
@own_option(
    WRITTEN,
    "--format",
    "formats",
    multiple=True,
    metavar="NAME[=FILE]",
    help=f"Out of {', '.join(FORMATS)}; several times.  [default: text, and what the CI that runs this shows]",
)
@own_option(AUDITED, "--model", type=_PATH, metavar="FILE", help="The audit has to be one of this file, by its hash.")
@own_option(
    LIMITS,
    "--allow-mismatch",
    type=CommaList(MISMATCHES),
    default=(),
    metavar="LIST",
    help=f"What audit and baseline need not share: {', '.join(MISMATCHES)}.",
)
@own_option(
    WRITTEN, "--init", is_flag=True, help="Write a commented policy from AUDIT: limits just beyond what holds today."
)
@own_option(
    WRITTEN, "--out", type=_PATH, metavar="FILE", help=f"With --init: the file to write.  [default: {DEFAULT_POLICY}]"
)
@verbosity_options
def command(audit: Path, verbose: int, quiet: bool, **options: Any) -> int:
    """Judge AUDIT (an audit.json or its folder): exit 1 when the policy is violated, 2 when it cannot be trusted.

    The policy is that of --policy, else [tool.salve-audit.gate] of a pyproject.toml, which is looked for upwards, else
    the one that the audit was made with. Limits given here tighten it and never loosen it.
    """
    set_up_logging(verbose, quiet)
    check_order("salve-audit gate", (AUDIT,), (audit,))
    if options["init"]:
        return _write_policy(audit, options["out"] or Path(DEFAULT_POLICY))
    if options["out"] is not None:
        raise UsageError("--out", "goes with --init", hint="--format NAME=FILE writes the verdict into a file")
    from salve_audit.gate.run import Request, run_gate

    targets = [parse_target(text) for text in options["formats"]] or detect_targets(os.environ)
    clear_targets(targets)
    gated = run_gate(
        Request(
            audit=audit,
            policy=None if options["policy"] is None else Path(options["policy"]),
            project=_find_project_policy() if options["policy"] is None else None,
            limits={name: options[name] for name in SHORTHANDS},
            baseline=None if options["baseline"] is None else Path(options["baseline"]),
            model=options["model"],
            allow_mismatch=options["allow_mismatch"],
        )
    )
    if any(target.format == "text" and target.path is None for target in targets):
        click.echo(class_table(gated.file.result, gated.verdict))
    write_verdict(gated.verdict, targets, str(gated.file.path), lambda text: click.echo(text, nl=False))
    return exit_code(gated.verdict)


def _find_project_policy() -> Path | None:
    """The pyproject.toml that is found upwards, if it has a policy."""
    from salve_audit.settings import find_project_policy

    return find_project_policy(Path.cwd())


def _warn_of_source(result: AuditResult, out: Path) -> None:
    """Says what the policy was relaxed by, and why the audit that it comes from cannot be trusted, if it cannot."""
    from salve_audit.gate.init import list_relaxed
    from salve_audit.gate.policy_file import load_policy
    from salve_audit.gate.verdict import judge

    for relaxed in list_relaxed(result):
        click.echo(f"warning: relaxed to what the audit holds: {plain(relaxed)}", err=True)
    for problem in judge(result, load_policy(out)).problems:
        click.echo(f"warning: the audit cannot be trusted: {plain(problem)}", err=True)


def _write_policy(audit: Path, out: Path) -> int:
    from salve_audit.errors import OutputError
    from salve_audit.gate.audit_file import read_audit_file
    from salve_audit.gate.init import check_source, propose_policy

    file = read_audit_file(audit)
    check_source(file)
    text = propose_policy(file.result)
    try:
        with out.open("x", encoding="utf-8") as written:
            written.write(text)
    except FileExistsError:
        raise OutputError(str(out), "is there already", hint="name another file with --out") from None
    except OSError as error:
        raise OutputError(str(out), f"cannot be written ({error.strerror})") from error
    _warn_of_source(file.result, out)
    click.echo(f"policy in {plain(str(out))}; try it: salve-audit gate {plain(str(audit))} --policy {plain(str(out))}")
    return 0
