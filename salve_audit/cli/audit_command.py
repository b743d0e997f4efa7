"""``salve-audit MODEL DATA``: the audit."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from salve_audit.cli.options import SectionedCommand, audit_options, build_config
from salve_audit.cli.printing import class_table, plain, set_up_logging, verdict_text
from salve_audit.config import AuditConfig
from salve_audit.errors import NothingMeasuredError, UsageError
from salve_audit.gate.limits import FLIP_RULE, RULES
from salve_audit.inputs.labels.suspect import measures_nothing
from salve_audit.options import flag_options
from salve_audit.results import AuditResult, Verdict

VIOLATED = 1
_FLAGS = {rule.name: flag_options(AuditConfig)[rule.key].flag for rule in RULES}  # of the limits, by their rules


@click.command("audit", cls=SectionedCommand)
@click.argument("model")
@click.argument("data", required=False)
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
    config = build_config(model, data, flags)
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
    return exit_code(result)


def print_result(result: AuditResult, config: AuditConfig) -> None:
    """The table, the verdict and where the report lies, on stdout."""
    click.echo(class_table(result))
    for text in filter(None, [verdict_text(result.verdict)]):
        click.echo(text)
    shown = [name for name in ("html", "pdf") if name in config.format]
    files = ", ".join(f"report.{name}" for name in shown) or "audit.json"
    click.echo(f"results in {plain(str(config.out))}: {files}")


def _unjudged(verdict: Verdict, result: AuditResult) -> NothingMeasuredError:
    """The first limit under which no class could be judged, and why."""
    judged = {rule.rule for rule in verdict.rules if rule.outcome != "thin"}
    kind = next((rule.rule for rule in verdict.rules if rule.rule not in judged), FLIP_RULE.name)
    limit, why = _FLAGS[kind], "each has under 30 correct samples or under 20 flips"
    if kind == FLIP_RULE.name:
        hint = "the results are written; audit more images per class"
        return NothingMeasuredError(limit, f"no class could be judged: {why}", hint=hint)
    why = "each has too few images that are classified correctly"
    if all(class_info.image_reliance is None for class_info in result.classes):
        absent = result.evidence.why_absent if result.evidence is not None else ""
        why = "image reliance was not measured" + (f" ({absent})" if absent else "")
    return NothingMeasuredError(limit, f"no class could be judged: {why}", hint="the results are written")


def exit_code(result: AuditResult) -> int:
    """0, or 1 when the verdict is a failure.

    Raises:
        NothingMeasuredError: a limit was given and no class could be judged, or the classes are not the outputs.
    """
    verdict = result.verdict
    if verdict.policy is not None and measures_nothing(result.notes):
        why = "accuracy is at chance and another order of the outputs fits far better: nothing trustworthy was measured"
        raise NothingMeasuredError(
            _FLAGS[FLIP_RULE.name], why, hint="the notes of the results name the order; --classes FILE"
        )
    if verdict.policy is not None and verdict.passed is None:
        raise _unjudged(verdict, result)
    return VIOLATED if verdict.passed is False else 0
