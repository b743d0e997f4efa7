"""Writes docs/options.md, the list of all options, from the fields of `AuditConfig`: ``make options``."""

from __future__ import annotations

from pathlib import Path

from salve_audit.config import SECTIONS, AuditConfig
from salve_audit.options import render_options

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "options.md"
HEAD = """# Options of an audit

Written by `make options` from `salve_audit/config.py`; edit that file instead.

A flag beats the TOML file of `--config`, which beats `[tool.salve-audit]` of pyproject.toml. Keys of both are the
flags without the hyphens in front (`batch-size = 64`, `no-images = true`; `images = false` says the same). The second
column has the keyword arguments of `AuditConfig`. A key that is not listed is an error. The fourth column says whether
the setting is recorded in audit.json under `provenance.config`. The library writes nothing where `out` is not given.
"""


def main() -> None:
    """Writes the file."""
    DOCUMENT.write_text(HEAD + render_options(AuditConfig, SECTIONS), encoding="utf-8")


if __name__ == "__main__":
    main()
