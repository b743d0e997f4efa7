"""Reports of a result that is already written: a renderer that fails costs its own file and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from salve_audit.audit.publish import publishing
from salve_audit.errors import OutputError, SalveError
from salve_audit.report import Rendering, render_html, render_pdf
from salve_audit.results import AuditResult

RENDERED = ("html", "pdf")


def write_reports(
    result: AuditResult, audit_json: bytes, out: Path, formats: Sequence[str], rendering: Rendering | None = None
) -> None:
    """Render `result` into `out`, where audit.json already lies.

    Args:
        result: the audit.
        audit_json: the bytes of audit.json, which the PDF carries.
        out: the folder.
        formats: out of html and pdf; others are passed over.
        rendering: paper, extent, language and other choices.

    Raises:
        OutputError: a format could not be rendered or written; the others are there.
    """
    renderers: dict[str, Callable[[], bytes]] = {
        "html": lambda: render_html(result, rendering=rendering).encode("utf-8"),
        "pdf": lambda: render_pdf(result, audit_json, rendering=rendering),
    }
    files: dict[str, bytes] = {}
    failures: list[OutputError] = []
    for name in RENDERED:
        if name in formats:
            try:
                files[f"report.{name}"] = renderers[name]()
            except Exception as error:
                failures.append(_explain(name, error))
    if files:
        with publishing(out, replaces=()) as stage:
            for file, content in files.items():
                (stage / file).write_bytes(content)
    if failures:
        raise failures[0]


def _explain(name: str, error: Exception) -> OutputError:
    what = f"report.{name}"
    why = error.why if isinstance(error, SalveError) else f"the renderer failed ({type(error).__name__}: {error})"
    hint = "audit.json is written; salve-audit report renders it again"
    failure = OutputError(what, why, hint=hint)
    failure.__cause__ = error
    return failure
