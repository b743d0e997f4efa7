"""Which form goes where."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from salve_audit.audit.publish import publishing
from salve_audit.audit.samples_csv import read_samples_csv
from salve_audit.errors import UsageError
from salve_audit.export.mlflow import write_run
from salve_audit.export.model_card import render_model_card
from salve_audit.report.attachments import csv_tables
from salve_audit.results import AuditResult, load_audit
from salve_audit.results.audit import find_audit

CARD = "model-card.md"
Write = Callable[[AuditResult, Path, Path], tuple[Path, ...]]


def export_audit(audit: Path, form: str, folder: Path | None = None) -> tuple[Path, ...]:
    """Writes a saved audit in another form, and returns the paths of what was written.

    Args:
        audit: an audit.json or its folder.
        form: a key of `FORMS`.
        folder: where to; None: the folder of the audit, for MLflow ``mlruns`` in the working folder.

    Raises:
        UsageError: no such form.
        ResultError: the audit cannot be read.
        OutputError: the folder cannot be written.
    """
    if form not in FORMS:
        raise UsageError("--to", f"{form!r} is not one of {', '.join(FORMS)}")
    result, home = load_audit(audit), find_audit(audit).parent
    default = Path("mlruns") if form == "mlflow" else home
    return FORMS[form](result, home, default if folder is None else folder)


def _write_card(result: AuditResult, home: Path, folder: Path) -> tuple[Path, ...]:
    return _write_files({CARD: render_model_card(result).encode("utf-8")}, folder)


def _write_tables(result: AuditResult, home: Path, folder: Path) -> tuple[Path, ...]:
    return _write_files(csv_tables(result, read_samples_csv(home)), folder)


def _write_files(contents: Mapping[str, bytes], folder: Path) -> tuple[Path, ...]:
    with publishing(folder, replaces=()) as stage:
        for name, content in contents.items():
            (stage / name).write_bytes(content)
    return tuple(folder / name for name in contents)


FORMS: Mapping[str, Write] = {
    "model-card": _write_card,
    "csv": _write_tables,
    "mlflow": lambda result, home, folder: (write_run(result, home, folder),),
}
