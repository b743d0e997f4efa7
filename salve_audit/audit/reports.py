"""Reports of a result that is already written: a renderer that fails costs its own file and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from salve_audit.audit.publish import publishing
from salve_audit.audit.rendering import render_pdf_once
from salve_audit.audit.reviewed import reviewed_concepts
from salve_audit.audit.samples_csv import samples_as_csv
from salve_audit.config import AuditConfig, policy_of
from salve_audit.errors import OutputError, SalveError
from salve_audit.gate.review import load_review
from salve_audit.report import Rendering, render_html
from salve_audit.results import AuditResult

if TYPE_CHECKING:
    from salve_audit.audit.recall import Measured
    from salve_audit.audit.stage_cache import StageCache

RENDERED = ("html", "pdf")


def choose_rendering(measured: Measured, config: AuditConfig) -> Rendering:
    """How the report of an audit is rendered: the configuration's choices, its review, and the table of its images."""
    review = policy_of(config).review
    reviewed = {} if review is None else reviewed_concepts(load_review(review), measured.result)
    samples = samples_as_csv(measured.samples)
    return Rendering(config.paper, config.pdf, config.lang, reviewed=reviewed, samples_csv=samples)


def write_reports(
    result: AuditResult,
    audit_json: bytes,
    out: Path,
    formats: Sequence[str],
    rendering: Rendering | None = None,
    cache: StageCache | None = None,
) -> None:
    """Render `result` into `out`, where audit.json already lies.

    Args:
        result: the audit.
        audit_json: the bytes of audit.json, which the PDF carries.
        out: the folder.
        formats: out of html and pdf; others are passed over.
        rendering: paper, extent, language and other choices.
        cache: where the PDF may have been kept.

    Raises:
        OutputError: a format could not be rendered or written; the others are there.
    """
    renderers: dict[str, Callable[[], bytes]] = {
        "html": lambda: render_html(result, rendering=rendering).encode("utf-8"),
        "pdf": lambda: render_pdf_once(result, audit_json, cache, rendering),
    }
    files: dict[str, bytes] = {}
    failures: list[OutputError] = []
    with ThreadPoolExecutor(len(RENDERED)) as pool:  # the PDF is mostly made by a process of its own
        started = {name: pool.submit(renderers[name]) for name in RENDERED if name in formats}
    for name, rendered in started.items():
        error = rendered.exception()
        if error is None:
            files[f"report.{name}"] = rendered.result()
        elif isinstance(error, Exception):
            failures.append(_explain(name, error))
        else:
            raise error
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
