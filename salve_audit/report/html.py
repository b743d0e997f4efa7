"""AuditResult to one HTML file that needs nothing else: no script, no font, no image from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from salve_audit.errors import OutputError
from salve_audit.report.numbers import clean
from salve_audit.report.view import HTML, Medium, build_view
from salve_audit.results import AuditResult


def render_html(result: AuditResult, medium: Medium = HTML) -> str:
    """The page of `result`, self-contained and without script.

    Args:
        result: the audit.
        medium: the page for a browser, or the shorter one that becomes the PDF.

    Raises:
        OutputError: the installation lacks its templates.
    """
    template = make_environment().get_template("report.html.j2")
    return template.render(view=build_view(result, medium))


def make_environment() -> jinja2.Environment:
    """Templates that escape all they are given.

    Raises:
        OutputError: the installation lacks them.
    """
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates_dir()),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )


def _finalize(value: Any) -> Any:
    # names of folders and files may hold what no document can; Markup was made, and cleaned, by the charts
    return clean(value) if type(value) is str else value


def templates_dir() -> Path:
    """The folder of templates: inside the installed package, or at the top of a working copy.

    Raises:
        OutputError: it is in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "templates", package.parent / "templates"):
        if (candidate / "report.html.j2").is_file():
            return candidate
    raise OutputError("templates", f"not found beside {package}", hint="is salve-audit installed completely?")
