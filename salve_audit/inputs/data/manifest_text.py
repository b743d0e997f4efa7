"""Manifests that are text: CSV with or without a header, lists of ``path label``, JSONL; cells are never evaluated."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from salve_audit.errors import DataError
from salve_audit.inputs.data.catalogue import guess_role
from salve_audit.inputs.data.columns import PATH_COLUMNS, find_column
from salve_audit.inputs.data.layout import is_image
from salve_audit.inputs.names import show_name
from salve_audit.inputs.reasons import summarise_error
from salve_audit.results.decisions import Decision

Table = Mapping[str, Sequence[object]]  # column -> values, all of one length
DELIMITERS = ",;\t"
MAX_BYTES = 512 * 1024**2
LONGEST_HEADER = 65_536  # characters
LOOKED_AT = 1000  # rows of a table without header
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
SEPARATOR = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # Excel's first line


class ReadTable(dict[str, Sequence[object]]):
    """Columns, and the decisions about how they were read."""

    decisions: tuple[Decision, ...] = ()


def read_csv(path: Path, delimiters: str = DELIMITERS) -> ReadTable:
    """The columns of a table; of one without a header by what is in them.

    Raises:
        DataError: it cannot be read, or is damaged.
    """
    text = _read_text(path)
    named = SEPARATOR.match(text[:8])
    text = text[named.end() :] if named else text
    delimiter = named[1] if named else _find_delimiter(text, delimiters)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        first = [name.strip() for name in next(reader, [])]
        rows: Iterator[list[str]] = reader
        has_header = find_column(first, PATH_COLUMNS) is not None or not any(map(is_image, first))
        if not has_header:
            rows = itertools.chain([first], reader)
        elif len(set(first)) < len(first):
            raise DataError(str(path), "two columns have the same name")
        columns: list[list[str]] = [[] for _ in first]
        for row in rows:
            if not row:
                continue
            if len(row) != len(first):
                why = f"line {reader.line_num} has {len(row)} fields, the first line has {len(first)}"
                raise DataError(str(path), why)
            for column, value in zip(columns, row, strict=True):
                column.append(value)
    except csv.Error as error:
        raise DataError(str(path), f"damaged at line {reader.line_num} ({error})") from error
    return ReadTable(zip(first, columns, strict=True)) if has_header else _name_columns(columns)


def is_list(head: bytes) -> bool:
    """True for the beginning of a list of ``path label`` or ``label path``, or of a table with any delimiter."""
    text = head.decode("utf-16" if head.startswith(UTF_16) else "utf-8-sig", "ignore")
    words = re.split(r"[\s,;]+", text.strip().partition("\n")[0].strip())
    return len(words) > 1 and any(map(is_image, words))


def read_list(path: Path) -> ReadTable:
    """The lines of a list: a file and its label, or the label first, or columns with a delimiter.

    Raises:
        DataError: it cannot be read, or a line has no label.
    """
    text = _read_text(path)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if any(delimiter in lines[0] for delimiter in DELIMITERS):
        return read_csv(path)
    is_label_first = is_image(lines[0]) and not is_image(lines[0].split(None, 1)[0])
    columns: list[list[str]] = [[], []]
    for number, line in enumerate(lines, 1):
        words = line.split(None, 1) if is_label_first else line.rsplit(None, 1)
        if len(words) != 2:
            raise DataError(str(path), f"line {number} has no label: {show_name(line)}")
        for column, word in zip(columns, words, strict=True):
            column.append(word)
    return _name_columns(columns)


def read_jsonl(path: Path) -> Table:
    """The columns of a file with one JSON object a line; raises `DataError` where a line is none."""
    rows = []
    for number, line in enumerate(_lines(_read_text(path)), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(str(path), f"line {number} is not JSON ({summarise_error(error)})") from error
        if not isinstance(row, dict):
            raise DataError(str(path), f"line {number} is a {type(row).__name__}, expected an object")
        rows.append(row)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in columns}


def _name_columns(columns: Sequence[Sequence[str]]) -> ReadTable:
    """Columns without names: files by their endings, splits by their words, the label if one is left or has text."""
    heads = [column[:LOOKED_AT] for column in columns]
    files = next((index for index, head in enumerate(heads) if is_image(head[0])), 0)
    others = [index for index in range(len(columns)) if index != files]
    splits = [index for index in others if len(others) > 1 and all(guess_role(value) for value in heads[index])]
    labels = [index for index in others if index not in splits]
    texts = [index for index in labels if not all(re.fullmatch(r"-?[\d.]*", value) for value in heads[index])]
    known = {files: "path"} | dict.fromkeys(splits[:1], "split")
    chosen = labels if len(labels) == 1 else texts
    known |= {chosen[0]: "label"} if len(chosen) == 1 else {}
    names = [known.get(index, f"column {index + 1}") for index in range(len(columns))]
    table = ReadTable(zip(names, columns, strict=True))
    why = f"there is no line with their names: the first one has the file {show_name(columns[files][0])}"
    table.decisions = (Decision("columns", ", ".join(names), why),)
    return table


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(str(path), f"a manifest of more than {MAX_BYTES // 1024**2} MiB", hint="use Parquet")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(str(path), f"cannot be read ({error.strerror})") from error
    try:  # Excel's "Unicode text" is UTF-16
        text = content.decode("utf-16" if content.startswith(UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(str(path), "is not UTF-8 text", hint="save it as CSV UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _find_delimiter(text: str, delimiters: str) -> str:
    """The first delimiter that gives the first line a column of paths, else the one that gives most columns."""
    headers = {
        delimiter: next(csv.reader(io.StringIO(text[:LONGEST_HEADER]), delimiter=delimiter), [])
        for delimiter in delimiters
    }
    fitting = [
        delimiter for delimiter, header in headers.items() if len(header) > 1 and find_column(header, PATH_COLUMNS)
    ]
    return fitting[0] if fitting else max(delimiters, key=lambda delimiter: len(headers[delimiter]))


def _lines(text: str) -> Iterator[str]:
    """Lines as JSONL means them: str.splitlines would also split inside texts."""
    return iter(text.split("\n"))
