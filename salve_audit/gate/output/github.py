"""GitHub Actions: annotations as workflow commands, with everything from names escaped."""

from __future__ import annotations

import re

from salve_audit.gate.output.words import UNTRUSTED, describe, file_of, key_of, worst_first
from salve_audit.results import Verdict
from salve_audit.results.plain_text import plain

MOST = 9  # GitHub shows ten of a kind a step: nine, and how many more there are


def render_github(verdict: Verdict, place: str = "audit.json") -> str:
    """One ``::error`` or ``::warning`` a line; empty where everything held."""
    path = file_of(verdict, place)
    errors = [_command("error", UNTRUSTED, plain(problem), path, None) for problem in verdict.problems]
    warnings = []
    for rule in worst_first(verdict):
        if rule.effect in ("error", "fail"):
            errors.append(_command("error", key_of(rule), describe(rule), path, rule.line))
        elif rule.effect == "warn":
            warnings.append(_command("warning", key_of(rule), describe(rule), path, rule.line))
    lines = [*_cut(errors, "error", path), *_cut(warnings, "warning", path)]
    return "".join(f"{line}\n" for line in lines)


def _cut(commands: list[str], kind: str, path: str) -> list[str]:
    if len(commands) <= MOST + 1:
        return commands
    return [*commands[:MOST], _command(kind, "more", f"and {len(commands) - MOST} more", path, None)]


def _command(kind: str, title: str, message: str, path: str, line: int | None) -> str:
    properties = {"file": path, "line": str(line or 1), "title": f"salve-audit: {title}"}
    said = ",".join(f"{key}={_escape_property(value)}" for key, value in properties.items())
    return f"::{kind} {said}::{_escape(_part_colons(message))}"


def _part_colons(text: str) -> str:
    """No two colons beside each other: names never look like a command."""
    return re.sub(":(?=:)", ": ", text)


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape(plain(text)).replace(":", "%3A").replace(",", "%2C")
