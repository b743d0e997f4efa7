"""AuditResult to charts, to HTML, to PDF. Works from a saved audit.json alone and never sees torch.

Importing the package loads neither numpy nor the template engine, so that terminals can show its conclusions at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from salve_audit.report.html import render_html
    from salve_audit.report.pdf import render_pdf
    from salve_audit.report.view import Rendering

__all__ = ["Rendering", "render_html", "render_pdf"]
_PLACES = {"Rendering": "view", "render_html": "html", "render_pdf": "pdf"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
