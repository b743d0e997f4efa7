"""Parquet files with an image column, and data sets saved by Hugging Face `datasets`, to a Catalogue.

Read with pyarrow alone; `datasets` is not needed and no code of a data set is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salve_audit.errors import DataError
from salve_audit.inputs.data.catalogue import Catalogue, find_role
from salve_audit.inputs.data.columns import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    SPLIT_COLUMNS,
    describe_other_flags,
    find_column,
    find_flag_columns,
    splits_of_flags,
)
from salve_audit.inputs.data.rows import Row, RowSet, group_rows
from salve_audit.inputs.data.sources.arrow import ArrowFile
from salve_audit.inputs.data.sources.tables import ARROW, PARQUET, TableFile, TableSource
from salve_audit.inputs.names import show_name
from salve_audit.inputs.reasons import summarise_error
from salve_audit.results.decisions import Decision

MAX_ROWS = 50_000_000
MAX_JSON = 64 * 1024**2


@dataclass(frozen=True)
class _Opened:
    """A table without its images: schema, columns that are small, and where its row groups begin."""

    schema: Any
    starts: tuple[int, ...]
    small: dict[str, list[Any]]


@dataclass(frozen=True)
class _Columns:
    """The columns of a table by their role; `others` are attributes."""

    image: str
    label: str
    split: str | None
    others: tuple[str, ...]


def read_tables(files: Sequence[tuple[Path, str]], root: Path, kind: str) -> Catalogue:
    """The rows of `files`, (path, split or ``""``) each; their first bytes show their format.

    Raises:
        DataError: damaged, without a column of images or of labels, or files with different columns.
    """
    sources: dict[str, TableFile] = {}
    rows: list[Row] = []
    attributes: dict[str, dict[str, str]] = {}
    names: list[str] | None = None
    tables = [(path, split, schema := read_schema(path), _find_columns(path, schema)) for path, split in files]
    opened_files = [_open(path, schema, columns) for path, _, schema, columns in tables]
    flags, flag_decision = _find_flags(tables[0][3], opened_files)
    for (path, split, schema, columns), opened in zip(tables, opened_files, strict=True):
        name = path.relative_to(root).as_posix() if path != root else path.name
        sources[name] = TableFile(path, _kind_of(path), columns.image, _leaf(schema, columns.image), opened.starts)
        keys = _keys(name, opened.starts[-1])
        own_names = _label_names(schema, columns.label)
        if names is not None and own_names is not None and own_names != names:
            raise DataError(str(path), "its class names differ from those of the other files")
        names = own_names or names
        splits: Sequence[Any] = opened.small.get(columns.split or "", [split] * len(keys))
        if flags and not split:
            splits = splits_of_flags(opened.small, flags)
        rows += map(Row, keys, _plain_labels(path, opened.small[columns.label]), map(_text, splits))
        for column in columns.others:
            if column not in flags:
                values = attributes.setdefault(column, {})
                values.update(zip(keys, map(_text, opened.small[column]), strict=True))
    return group_rows(
        RowSet(
            root=root,
            source=TableSource(sources),
            kind=kind,
            rows=rows,
            names=names,
            attributes=attributes,
            in_reading_order=True,
            decisions=flag_decision,
        )
    )


def _find_flags(columns: _Columns, opened: Sequence[_Opened]) -> tuple[list[str], tuple[Decision, ...]]:
    """Columns of all files that mark a split with yes and no, where no column names it, and the decision."""
    shared = [name for name in columns.others if all(name in file.small for file in opened)]
    joined = {name: [value for file in opened for value in file.small[name]] for name in shared}
    flags = find_flag_columns(joined) if columns.split is None else []
    if not flags:
        return [], describe_other_flags(joined, ())
    n_fit = splits_of_flags(joined, flags).count("train")
    why = f"the column {show_name(flags[0])} says yes or no"
    return flags, (Decision("split", f"{n_fit:,} rows to fit", why), *describe_other_flags(joined, flags))


def read_schema(path: Path) -> Any:
    """The schema of a Parquet or Arrow file.

    Raises:
        DataError: it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if _kind_of(path) == PARQUET:
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
        else:
            schema = ArrowFile.open(path).schema
        if len(set(schema.names)) < len(schema.names):  # names that are no UTF-8 fail here too
            raise DataError(str(path), "two columns have the same name")
    except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
        raise DataError(str(path), f"not a Parquet or Arrow file, or damaged ({summarise_error(error)})") from error
    return schema


def has_images(schema: Any) -> bool:
    """True for a column of encoded images."""
    return _image_column(schema) is not None


def split_of_file(path: Path) -> str:
    """``train`` for ``train-00000-of-00001.parquet`` and ``train/0.parquet``; empty where no word is a split."""
    words = re.split(r"[^a-z0-9]+", f"{path.parent.name}/{path.stem}".lower())
    return next((word for word in reversed(words) if find_role(word)), "")


def _keys(name: str, n: int) -> list[str]:
    width = len(str(max(n - 1, 0)))
    return [f"{name}/{row:0{width}}" for row in range(n)]


def _kind_of(path: Path) -> str:
    with path.open("rb") as stream:
        return PARQUET if stream.read(4) == b"PAR1" else ARROW


def _open(path: Path, schema: Any, columns: _Columns) -> _Opened:
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = [columns.label, *columns.others, *([columns.split] if columns.split else [])]
    small: dict[str, list[Any]] = {name: [] for name in wanted}
    starts = [0]
    try:
        if _kind_of(path) == PARQUET:
            with pq.ParquetFile(path) as file:
                _check_count(path, file.metadata.num_rows)
                for group in range(file.metadata.num_row_groups):
                    starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
                for batch in file.iter_batches(4096, columns=wanted):
                    _take(batch, small)
        else:
            file = ArrowFile.open(path)
            for number in range(file.n_batches):
                batch = file.read(number, wanted)
                starts.append(starts[-1] + batch.num_rows)
                _check_count(path, starts[-1])
                _take(batch, small)
    except (pa.ArrowException, OSError, ValueError, MemoryError, UnicodeDecodeError) as error:
        raise DataError(str(path), f"damaged ({summarise_error(error)})") from error
    if any(len(values) != starts[-1] for values in small.values()):
        raise DataError(str(path), "damaged: its columns have different lengths")
    return _Opened(schema, tuple(starts), small)


def _take(batch: Any, small: dict[str, list[Any]]) -> None:
    for name, values in small.items():
        column = batch.column(batch.schema.get_field_index(name))
        values += column.to_pylist()


def _check_count(path: Path, n: int) -> None:
    if n > MAX_ROWS:
        raise DataError(str(path), f"{n:,} rows, more than {MAX_ROWS:,}")


def _find_columns(path: Path, schema: Any) -> _Columns:
    import pyarrow.types as kinds

    names = list(schema.names)
    image = _image_column(schema)
    if image is None:
        why = f"no column of images (columns: {', '.join(map(show_name, names[:8]))})"
        raise DataError(str(path), why, hint="expected a column 'image' of encoded images (bytes)")
    label = find_column(names, LABEL_COLUMNS)
    if label is None:
        why = f"no column of labels (columns: {', '.join(map(show_name, names[:8]))})"
        raise DataError(str(path), why, hint="expected a column 'label'")
    split = find_column(names, SPLIT_COLUMNS)
    simple = (
        kinds.is_integer, kinds.is_string, kinds.is_large_string, kinds.is_boolean, kinds.is_floating,
        kinds.is_dictionary,
    )  # fmt: skip
    others = [
        name
        for name in names
        if name not in (image, label, split) and any(is_kind(schema.field(name).type) for is_kind in simple)
    ]
    return _Columns(image, label, split, tuple(others))


def _image_column(schema: Any) -> str | None:
    fitting = [field.name for field in schema if _holds_bytes(field.type)]
    named = find_column(fitting, IMAGE_COLUMNS)
    return named if named else fitting[0] if len(fitting) == 1 else None


def _leaf(schema: Any, column: str) -> str:
    import pyarrow.types as kinds

    return f"{column}.bytes" if kinds.is_struct(schema.field(column).type) else column


def _holds_bytes(kind: Any) -> bool:
    import pyarrow.types as kinds

    if kinds.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _holds_bytes(kind.field(at).type)
    return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind))


def _label_names(schema: Any, column: str) -> list[str] | None:
    """Names of a ClassLabel column, from the metadata that `datasets` writes into the schema."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None or len(text) > MAX_JSON:
        return None
    try:
        names = json.loads(text)["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _plain_labels(path: Path, values: list[Any]) -> list[int | str | None]:
    odd = next((v for v in values if v is not None and (isinstance(v, bool) or not isinstance(v, (int, str)))), None)
    if odd is not None:
        raise DataError(str(path), f"a label is a {type(odd).__name__}, expected whole numbers or texts")
    return values


def _text(value: Any) -> str:
    return "" if value is None else str(value)
