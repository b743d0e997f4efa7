"""Rendering works where there is no torch, and the parent process never loads WeasyPrint."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from salve_audit.results import AuditResult

CODE = """
import sys
from salve_audit.report import render_html, render_pdf
from salve_audit.results import load_audit
page = render_html(load_audit(sys.argv[1]))
assert "Verdict" in page
heavy = {"torch", "timm", "pandas", "pyarrow", "scipy", "numpy", "weasyprint", "click", "PIL"} & set(sys.modules)
assert not heavy, heavy
"""


def test_report_loads_nothing_heavy(audit: AuditResult, tmp_path: Path) -> None:
    file = tmp_path / "audit.json"
    file.write_text(audit.to_json(), encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", CODE, str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
