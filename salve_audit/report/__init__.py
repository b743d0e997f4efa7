"""AuditResult to charts, to HTML, to PDF. Works from a saved audit.json alone and never sees torch."""

from __future__ import annotations

from salve_audit.report.html import render_html
from salve_audit.report.pdf import render_pdf
from salve_audit.report.view import Rendering

__all__ = ["Rendering", "render_html", "render_pdf"]
