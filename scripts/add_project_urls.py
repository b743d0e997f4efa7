"""Adds the project's addresses to pyproject.toml before a release is built: ``add_project_urls.py https://HOST/NAME``.

They are those of the repository that builds it, which the sources don't know.
"""

from __future__ import annotations

import sys
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
PAGES = {
    "Homepage": "",
    "Documentation": "/blob/main/docs/index.md",
    "Changelog": "/blob/main/CHANGELOG.md",
    "Issues": "/issues",
}


def render_urls(repository: str) -> str:
    """The table ``[project.urls]`` of a repository's address."""
    lines = [f'{name} = "{repository}{page}"' for name, page in PAGES.items()]
    return "\n".join(["", "[project.urls]", *lines, ""])


def main() -> None:
    """Appends the table."""
    (repository,) = sys.argv[1:]
    PYPROJECT.write_text(PYPROJECT.read_text(encoding="utf-8") + render_urls(repository), encoding="utf-8")


if __name__ == "__main__":
    main()
