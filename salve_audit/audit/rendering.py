"""The PDF of a result, rendered once: it takes longer than everything else that an audit from the cache does."""

from __future__ import annotations

import hashlib
from importlib import metadata

from salve_audit.audit.code_version import code_version, folder_version
from salve_audit.audit.stage_cache import KeptResult, StageCache
from salve_audit.report import Rendering, render_pdf
from salve_audit.report.places import templates_dir
from salve_audit.results import AuditResult

PDF = "report"  # among the names of stages in the cache
RENDERERS = ("weasyprint", "jinja2")


def render_pdf_once(
    result: AuditResult, text: bytes, cache: StageCache | None, rendering: Rendering | None = None
) -> bytes:
    """The PDF of a result whose audit.json is `text`; from the cache where the same was rendered before.

    Raises:
        OutputError: the renderer failed, is not installed, or took too long.
    """
    rendering = rendering or Rendering()
    if cache is None or rendering.comparison is not None:
        return render_pdf(result, text, rendering=rendering)
    key = _key(text, rendering)
    kept = cache.recall(PDF, key, bytes)
    if kept is None:
        kept = KeptResult(render_pdf(result, text, rendering=rendering), ())
        cache.keep(PDF, key, kept)
    pdf: bytes = kept.record
    return pdf


def _key(text: bytes, rendering: Rendering) -> str:
    versions = [f"{name} {metadata.version(name)}" for name in RENDERERS]
    choices = [rendering.paper, rendering.extent, rendering.language, repr(sorted(rendering.reviewed.items()))]
    choices.append(hashlib.sha256(rendering.samples_csv or b"").hexdigest())
    parts = [code_version(["report"]), folder_version(templates_dir()), *versions, *choices]
    return hashlib.sha256("\n".join(parts).encode() + b"\n" + text).hexdigest()
