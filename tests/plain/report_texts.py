"""The texts of a report, read from its code and templates: the keys that a catalogue has to have."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import jinja2

import salve_audit
from salve_audit.report.places import templates_dir

REPORT = Path(salve_audit.__file__).parent / "report"
SAYING = ("say", "plural", "Missing", "Column")


def texts_of_code() -> Iterator[str]:
    """First arguments of `say`, words of `plural`, reasons of missing values, headers written out."""
    for file in sorted(REPORT.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SAYING:
                yield from _literals(node)


def _literals(call: ast.Call) -> Iterator[str]:
    assert isinstance(call.func, ast.Name)
    if call.func.id == "plural":
        words = [node.value for node in call.args[1:] if isinstance(node, ast.Constant)]
        yield from words
        if len(words) == 1:
            yield f"{words[0]}s"
    elif call.args:
        first = call.args[0]
        options = (first.body, first.orelse) if isinstance(first, ast.IfExp) else (first,)
        yield from (node.value for node in options if isinstance(node, ast.Constant) and isinstance(node.value, str))


def texts_of_templates() -> Iterator[str]:
    """Arguments of `say` and blocks of ``{% trans %}``."""
    environment = jinja2.Environment(extensions=["jinja2.ext.i18n"])
    environment.policies["ext.i18n.trimmed"] = True
    for file in sorted(templates_dir().rglob("*.j2")):
        if file.name.startswith("explain"):
            continue
        source = file.read_text(encoding="utf-8")
        for _, function, message in environment.extract_translations(source, gettext_functions=("say", "gettext")):
            if isinstance(message, str):
                yield message.replace("%%", "%")
            elif message and function == "say":
                yield str(message[0])


def places(text: str) -> set[str]:
    """The ``{places}`` of a text."""
    return set(re.findall(r"\{(\w+)\}", text))
