"""``salve-audit MODEL DATA``: the audit."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import click

from salve_audit.cli.arguments import check_subject
from salve_audit.cli.class_table import class_table
from salve_audit.cli.options import SectionedCommand, audit_options, build_config
from salve_audit.cli.printing import set_up_logging
from salve_audit.config import DEFAULT_OUT, AuditConfig
from salve_audit.errors import CheckpointError, SalveError, UsageError
from salve_audit.results import AuditResult, Verdict
from salve_audit.results.plain_text import plain
from salve_audit.results.stale import mark_stale
from salve_audit.results.verdict import UNTRUSTED


@click.command("audit", cls=SectionedCommand)
@click.argument("model", type=click.Path())
@click.argument("data", required=False, type=click.Path())
@audit_options
@click.option("--log-json", is_flag=True, help="Progress as JSON, one object per line on stderr (docs/log-json.md).")
def command(model: str, data: str | None, verbose: int, quiet: bool, log_json: bool, **flags: Any) -> int:
    """Audit checkpoint MODEL on the labelled images in DATA.

    DATA is a folder with train/ and val/ (or test/), one folder per class in each, or one level of class folders; or
    a manifest (.csv, .tsv, .jsonl, .parquet with path and label), a .zip, .tar or .tar.gz, WebDataset shards, .npz,
    .npy or IDX files, Parquet files with an image column, or a folder saved by Hugging Face datasets.
    Without DATA, MODEL is a file of arrays (.npz, .safetensors): acts, labels, weight, bias.
    """
    set_up_logging(verbose, quiet, log_json)
    check_subject("salve-audit", model, data)
    config = _configure(model, data, flags)
    to_stdout = config.out == "-"
    if to_stdout:
        if config.format != ("json",):
            raise UsageError("--out -", "only --format json can go to stdout")
        config = dataclasses.replace(config, out=None)
    from salve_audit.audit.run import run_audit

    result = run_audit(dataclasses.replace(config, progress=not (quiet or log_json)))
    if to_stdout:
        click.echo(result.to_json(), nl=False)
    else:
        print_result(result, config)
    return exit_code(result.verdict)


def _configure(model: str, data: str | None, flags: dict[str, Any]) -> AuditConfig:
    """The configuration; where there is none, results of an earlier run are marked as such."""
    try:
        config = build_config(model, data, flags)
        if not Path(model).exists():  # before anything heavy is loaded
            raise CheckpointError(model, "no such file")
    except SalveError as error:
        mark_stale(Path(flags.get("out") or DEFAULT_OUT), f"an audit of {model} that started later failed: {error}")
        raise
    return config


def print_result(result: AuditResult, config: AuditConfig) -> None:
    """The table, the verdict and where the report lies, on stdout; with annotations where a CI shows them."""
    from salve_audit.gate.output.formats import detect_targets, write_verdict

    click.echo(class_table(result))
    place = str(Path(config.out or "") / "audit.json")
    targets = detect_targets(os.environ) if result.verdict.word != "no policy" else ()
    write_verdict(result.verdict, targets, place, lambda text: click.echo(text, nl=False))
    shown = [name for name in ("html", "pdf") if name in config.format]
    files = ", ".join(f"report.{name}" for name in shown) or "audit.json"
    click.echo(f"results in {plain(str(config.out))}: {files}")


def exit_code(verdict: Verdict) -> int:
    """The verdict's own; where nothing can be said, the first reason goes to stderr."""
    if verdict.exit_code == UNTRUSTED:
        more = f" (and {len(verdict.problems) - 1} more)" if len(verdict.problems) > 1 else ""
        reason = verdict.problems[0] if verdict.problems else "no class could be judged"
        click.echo(f"error: gate: nothing trustworthy was measured: {plain(reason)}{more}", err=True)
    return verdict.exit_code
