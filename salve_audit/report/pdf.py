"""AuditResult to an archival PDF (PDF/A-3a, tagged) that carries its own audit.json."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

from salve_audit.errors import OutputError
from salve_audit.report.attachments import csv_tables
from salve_audit.report.fonts import foreign_scripts
from salve_audit.report.html import render_html
from salve_audit.report.numbers import moment
from salve_audit.report.pdf_child import NO_FONT
from salve_audit.report.view import PDF, Rendering
from salve_audit.results import AuditResult
from salve_audit.results.relabel import class_names

TIMEOUT = 300.0
_logger = logging.getLogger(__name__)


def render_pdf(
    result: AuditResult,
    audit_json: bytes | None = None,
    timeout: float = TIMEOUT,
    rendering: Rendering | None = None,
) -> bytes:
    """The report as PDF; the same result gives the same bytes. Warns of scripts that no font on this machine has.

    Args:
        result: the audit.
        audit_json: the bytes of audit.json to attach; None: made from `result`.
        timeout: seconds after which the renderer is given up.
        rendering: paper, extent, language and other choices.

    Raises:
        OutputError: the renderer failed, is not installed, or took too long.
    """
    rendering = rendering or Rendering()
    page = render_html(result, PDF, rendering).encode("utf-8")
    attachment = result.to_json().encode("utf-8") if audit_json is None else audit_json
    files = {"audit.json": attachment, **csv_tables(result, rendering.samples_csv)}
    created = moment(result.created)
    scripts = foreign_scripts(class_names(result))
    header = {
        "page": len(page),
        "files": [(name, len(content)) for name, content in files.items()],
        "created": created.isoformat(),
        "scripts": [(script, package, character) for (script, package), character in scripts.items()],
    }
    job = json.dumps(header).encode() + b"\n" + page + b"".join(files.values())
    return _run_child(job, int(created.timestamp()), timeout)


def _run_child(job: bytes, epoch: int, timeout: float) -> bytes:
    # -m puts the working folder first on the path: it must be the package's own, not one with a stranger's modules
    home = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0", "TZ": "UTC"}
    command = [sys.executable, "-m", "salve_audit.report.pdf_child"]
    try:
        done = subprocess.run(command, input=job, capture_output=True, timeout=timeout, cwd=home, env=environment)
    except subprocess.TimeoutExpired as error:
        raise OutputError(
            "report.pdf", f"the renderer took more than {timeout:g} s", hint="--format html,json"
        ) from error
    except OSError as error:
        raise OutputError("report.pdf", f"the renderer could not be started ({error.strerror})") from error
    if done.returncode != 0 or not done.stdout.startswith(b"%PDF"):
        raise OutputError("report.pdf", _cause(done), hint="the page itself is available with --format html,json")
    for line in done.stderr.decode("utf-8", "replace").splitlines():
        is_for_users = line.startswith(NO_FONT)
        _logger.log(logging.WARNING if is_for_users else logging.DEBUG, "report.pdf: %s", line.strip())
    return done.stdout


def _cause(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    last = lines[-1].strip() if lines else "no message"
    return f"the renderer failed (exit {done.returncode}): {last}"
