"""AuditResult to one HTML file that needs nothing else: script, fonts and images are in it, and none other may run."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from typing import Any

import jinja2
from markupsafe import Markup

from salve_audit.report.attachments import csv_tables, pack_numbers, zip_tables
from salve_audit.report.fonts import font_faces
from salve_audit.report.language import say, speaking
from salve_audit.report.numbers import isolated
from salve_audit.report.places import templates_dir
from salve_audit.report.script_data import page_data
from salve_audit.report.view import HTML, Medium, Rendering, build_view
from salve_audit.results import AuditResult

MOST_BYTES = 2_000_000  # of a download; a larger one is left out, since all is in audit.json beside the page


def render_html(result: AuditResult, medium: Medium = HTML, rendering: Rendering | None = None) -> str:
    """The page of `result`, self-contained; without its script it still says everything.

    Args:
        result: the audit.
        medium: the page for a browser, or the shorter one that becomes the PDF.
        rendering: paper, language and other choices.

    Raises:
        OutputError: the installation lacks its templates.
    """
    rendering = rendering or Rendering()
    with speaking(rendering.language):
        environment = make_environment()
        view = build_view(result, medium, rendering)
        names = ("report.css", f"{'pdf' if medium.name == 'pdf' else 'screen'}.css")
        style = "\n".join([font_faces(), *(_read(environment, name, paper=rendering.paper) for name in names)])
        context: dict[str, Any] = {"view": view, "style": Markup(style), "script": "", "data": "", "csp": ""}
        if medium.name == "html":
            context |= _interactive(result, style, environment, rendering)
        return environment.get_template("report.html.j2").render(context)


def _interactive(
    result: AuditResult, style: str, environment: jinja2.Environment, rendering: Rendering
) -> dict[str, Any]:
    """Script, its data and downloads, and the policy that lets only these run."""
    script = _read(environment, "report.js")
    files = (
        ("audit.json.gz", say("Numbers (JSON, gzip)"), "application/gzip", pack_numbers(result)),
        (
            "tables.zip",
            say("Tables (CSV, zip)"),
            "application/zip",
            zip_tables(csv_tables(result, rendering.samples_csv)),
        ),
    )
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; font-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return {
        "script": Markup(script),
        "data": Markup(_json(page_data(result))),
        "csp": policy,
        "downloads": [
            (name, title, _data_url(kind, content))
            for name, title, kind, content in files
            if len(content) <= MOST_BYTES
        ],
    }


def _read(environment: jinja2.Environment, name: str, **values: object) -> str:
    return environment.get_template(name).render(**values).strip()


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(f"\n{text}\n".encode()).digest()).decode("ascii")


def _json(value: Any) -> str:
    """JSON that no HTML parser can end early."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


@functools.cache
def make_environment() -> jinja2.Environment:
    """Templates that escape all they are given, each compiled once.

    Raises:
        OutputError: the installation lacks them.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates_dir()),
        extensions=["jinja2.ext.i18n"],
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.policies["ext.i18n.trimmed"] = True
    environment.install_gettext_callables(say, _say_many, newstyle=False)  # type: ignore[attr-defined]
    environment.globals["say"] = say
    return environment


def _say_many(singular: str, many: str, n: int) -> str:
    return say(singular if n == 1 else many)


def _finalize(value: Any) -> Any:
    # names of folders and files may hold what no document can; Markup was made, and cleaned, by the charts
    return isolated(value) if type(value) is str else value
