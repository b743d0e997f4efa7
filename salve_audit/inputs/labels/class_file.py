"""``--classes FILE``: the user's own mapping of the data's classes to the model's outputs."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

from salve_audit.errors import UsageError
from salve_audit.inputs.names import show_name
from salve_audit.inputs.reasons import summarise_error

MAX_BYTES = 64 * 1024**2
FORMAT_HINT = (
    "lines 'class,output' (or with a tab; names with commas in double quotes), or JSON {\"class\": output}; "
    "an output is a number or a name"
)


def read_class_file(path: Path) -> Mapping[str, int | str]:
    """Class of the data -> output, as a number or a name of the model.

    Raises:
        UsageError: it cannot be read, a line is not understood, or a class is listed twice.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would keep whoever opens it waiting
            raise UsageError(str(path), "is no plain file", hint=FORMAT_HINT)
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(str(path), f"more than {MAX_BYTES // 1024**2} MiB")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(str(path), f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(str(path), "is not UTF-8 text") from error
    mapping = _read_json(path, text) if text.lstrip().startswith("{") else _read_lines(path, text)
    if not mapping:
        raise UsageError(str(path), "lists no classes", hint=FORMAT_HINT)
    return mapping


def _read_json(path: Path, text: str) -> dict[str, int | str]:
    try:
        content = json.loads(text, object_pairs_hook=lambda pairs: _unique(path, pairs))
    except (ValueError, RecursionError) as error:
        raise UsageError(str(path), f"not JSON ({summarise_error(error)})", hint=FORMAT_HINT) from error
    for name, output in content.items():
        if isinstance(output, bool) or not isinstance(output, (int, str)):
            why = f"the output of {show_name(name)} is a {type(output).__name__}"
            raise UsageError(str(path), why, hint=FORMAT_HINT)
    return content


def _unique(path: Path, pairs: list[tuple[str, object]]) -> dict[str, object]:
    content: dict[str, object] = {}
    for name, output in pairs:
        if name in content:
            raise UsageError(str(path), f"{show_name(name)} is listed twice")
        content[name] = output
    return content


def _read_lines(path: Path, text: str) -> dict[str, int | str]:
    pairs: list[tuple[str, object]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, word = _split_line(path, number, line)
        pairs.append((name, int(word) if word.isascii() and word.isdigit() and len(word) < 10 else word))
    return {name: output for name, output in _unique(path, pairs).items() if isinstance(output, (int, str))}


def _split_line(path: Path, number: int, line: str) -> tuple[str, str]:
    """Class and output. A class that is not quoted may have commas of its own."""
    mark = "\t" if "\t" in line else ","
    try:
        fields = next(csv.reader([line], delimiter=mark, strict=True, skipinitialspace=True))
    except csv.Error:
        fields = []
    name, output = mark.join(fields[:-1]).strip(), fields[-1].strip() if fields else ""
    if not name or not output:
        raise UsageError(str(path), f"line {number} is not understood", hint=FORMAT_HINT)
    return name, output
