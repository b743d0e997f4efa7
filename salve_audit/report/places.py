"""Where the templates, style sheets and fonts lie."""

from __future__ import annotations

from pathlib import Path

from salve_audit.errors import OutputError


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
