"""A manifest (CSV, TSV, JSONL, Parquet or a plain list) of paths, labels, splits and attributes to a Catalogue.

Paths are relative to the manifest's folder and stay in it. What a cell says is data: it is never evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from salve_audit.errors import DataError
from salve_audit.inputs.data.catalogue import Catalogue, guess_role
from salve_audit.inputs.data.columns import (
    FOLD,
    LABEL_COLUMNS,
    PATH_COLUMNS,
    SPLIT_COLUMNS,
    describe_other_flags,
    find_column,
    find_flag_columns,
    find_one_hot,
    one_hot_labels,
    splits_of_flags,
)
from salve_audit.inputs.data.manifest_folder import DiskFolder, ManifestFolder
from salve_audit.inputs.data.manifest_text import DELIMITERS, Table, read_csv, read_jsonl, read_list
from salve_audit.inputs.data.placing import place_files
from salve_audit.inputs.data.rows import Row, RowSet, group_rows
from salve_audit.inputs.names import check_relative, show_name
from salve_audit.inputs.reasons import nearest_names, summarise_error
from salve_audit.results.decisions import Decision

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
LISTS = (".txt", ".lst")  # where the first line names an image
COLUMN_HINT = "expected the columns path and label, optionally split; further columns are attributes"
MAX_ROWS = 20_000_000
LOOKED_AT = 100
LONGEST_PATH = 4096  # characters that are asked the file system for
STRICT_SPLITS = 4  # of the names of split columns: whatever their values, they are splits


def read_manifest(path: Path, follow_links: bool = False) -> Catalogue:
    """The images that `path` lists.

    Raises:
        DataError: it cannot be read, lacks a column, or lists a path that is absolute or leads out of its folder.
    """
    folder = path.resolve().parent
    return catalogue_of_table(path, read_table(path), DiskFolder(folder, follow_links))


def read_table(path: Path) -> Table:
    """The columns of a manifest; raises as `read_manifest`."""
    ending = path.suffix.lower()
    if ending == ".parquet":
        return _read_parquet(path)
    if ending in (".jsonl", ".ndjson"):
        return read_jsonl(path)
    if ending in LISTS:
        return read_list(path)
    return read_csv(path, DELIMITERS[::-1] if ending == ".tsv" else DELIMITERS)


def catalogue_of_table(path: Path, table: Table, folder: ManifestFolder) -> Catalogue:
    """The images in the columns of `table`, read from the manifest `path` in `folder`; raises as `read_manifest`."""
    path_column = _find_paths(path, table, folder)
    keys = [_check_path(path, folder, number, value) for number, value in enumerate(table[path_column], 1)]
    keys, turned = _turn_slashes(folder, keys)
    keys, placed = place_files(path, folder, keys)
    splits, split_columns, split_decision = _read_splits(table)
    labels, label_columns, label_decision = _read_labels(path, table, (path_column, *split_columns))
    rows = [
        Row(key, _label(path, number, label), "" if split is None else str(split).strip())
        for number, (key, label, split) in enumerate(zip(keys, labels, splits, strict=True), 1)
    ]
    attributes = {
        column: {key: "" if value is None else str(value) for key, value in zip(keys, values, strict=True)}
        for column, values in table.items()
        if column not in (path_column, *label_columns, *split_columns)
    }
    chosen = {"path": path_column, "label": label_columns[0], "split": next(iter(split_columns), "split")}
    others = ", ".join(f"{use}: {show_name(name)}" for use, name in chosen.items() if name != use)
    kind = f"{path.suffix.lstrip('.').upper()} manifest{f' (columns {others})' if others else ''}"
    other_flags = describe_other_flags(table, (path_column, *label_columns, *split_columns))
    decisions = (*getattr(table, "decisions", ()), *turned, *placed, *split_decision, *other_flags, *label_decision)
    return group_rows(
        RowSet(root=path, source=folder.source, kind=kind, rows=rows, attributes=attributes, decisions=decisions)
    )


def _turn_slashes(folder: ManifestFolder, keys: list[str]) -> tuple[list[str], tuple[Decision, ...]]:
    """The paths with slashes, where they are written with backslashes, as on Windows, and no file is called so."""
    sample = [key for key in keys[:LOOKED_AT] if "\\" in key]
    if not sample or any(folder.has_file(key) for key in sample):
        return keys, ()
    turned = [key.replace("\\", "/") for key in keys]
    why = f"they are written with backslashes: {show_name(sample[0])}"
    return turned, (Decision("paths", "with slashes", why),)


def _find_paths(path: Path, table: Table, folder: ManifestFolder) -> str:
    """The column of files: by its name, and of several such names the first whose files are there."""
    named = [name for known in PATH_COLUMNS if (name := find_column(table, (known,))) is not None]
    for name in named:
        values = [value for value in table[name][:LOOKED_AT] if isinstance(value, str)]
        if any(
            value and "\0" not in value and len(value) < LONGEST_PATH and folder.has_file(value) for value in values
        ):
            return name
    return named[0] if named else _find(path, table, PATH_COLUMNS)


def _read_splits(table: Table) -> tuple[Sequence[object], list[str], tuple[Decision, ...]]:
    """The split of each row, the columns that say it, and the decision to take them."""
    n_rows = max(map(len, table.values()), default=0)
    column = find_column(table, SPLIT_COLUMNS)
    if column is not None and any(guess_role(str(value)) for value in set(table[column])):
        return table[column], [column], ()
    flags = find_flag_columns(table)
    if flags:
        splits = splits_of_flags(table, flags)
        why = f"the column {show_name(flags[0])} says yes or no"
        return splits, flags, (Decision("split", f"{splits.count('train'):,} rows to fit", why),)
    fold = next((name for name in table if FOLD.fullmatch(name.strip())), None)
    why = f"the column {show_name(fold or '')} numbers folds, which are no parts to fit and to audit"
    decision = () if fold is None else (Decision("folds", "not used", why, "a model knows all folds but its own"),)
    known = column is not None and column.strip().casefold() in SPLIT_COLUMNS[:STRICT_SPLITS]
    return (table[column], [column], decision) if known and column else ([""] * n_rows, [], decision)


def _read_labels(
    path: Path, table: Table, taken: Sequence[str]
) -> tuple[Sequence[object], list[str], tuple[Decision, ...]]:
    """The label of each row, the columns that say it, and the decision to take them.

    Raises:
        DataError: no column has the name of one, and there is not exactly one other column.
    """
    column = find_column([name for name in table if name not in taken], LABEL_COLUMNS)
    if column is not None:
        return table[column], [column], ()
    others = [name for name in table if name not in taken]
    one_hot = find_one_hot(table, taken) if any(table.values()) else []
    if one_hot:
        why = f"each row has a single 1 in these {len(one_hot)} columns"
        decision = Decision("label", f"the column with the 1: {', '.join(map(show_name, one_hot[:4]))}", why)
        return one_hot_labels(table, one_hot), one_hot, (decision,)
    if len(others) == 1 and table[others[0]]:
        decision = Decision("label", f"the column {show_name(others[0])}", "it is the only other column")
        return table[others[0]], others, (decision,)
    column = _find(path, table, LABEL_COLUMNS)
    return table[column], [column], ()


def _find(path: Path, table: Table, names: tuple[str, ...]) -> str:
    column = find_column(table, names)
    if column is None:
        columns = ", ".join(show_name(name) for name in list(table)[:8])
        near = nearest_names(names[0], table)
        hint = f"{COLUMN_HINT}{f'; is it {near[0]!r}?' if near else ''}"
        raise DataError(str(path), f"no column {names[0]!r} (columns: {columns})", hint=hint)
    return column


def _label(path: Path, number: int, value: object) -> int | str | None:
    if value is None or (isinstance(value, (int, str)) and not isinstance(value, bool)):
        return value.strip() if isinstance(value, str) else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise DataError(str(path), f"the label of row {number} is a {type(value).__name__}, expected a text or a number")


def _check_path(manifest: Path, folder: ManifestFolder, number: int, value: object) -> str:
    """`value` as a path relative to the folder.

    Raises:
        DataError: no text, absolute, a URL, with ``..``, or behind a link that leads out.
    """
    try:
        if not isinstance(value, str):
            raise ValueError("is no text" if value is not None else "is missing")
        name = check_relative(value)
        if not folder.holds(name):
            raise ValueError("leads out of its folder through a link")
    except ValueError as error:
        shown = "" if value is None else f" {show_name(str(value))}"
        why = f"the path{shown} of row {number} {error}; refused"
        hint = "paths are relative to the manifest's folder"
        if "link" in str(error):
            hint = "--follow-links follows it"
        raise DataError(str(manifest), why, hint=hint) from error
    return name


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows > MAX_ROWS:
                raise DataError(str(path), f"{file.metadata.num_rows:,} rows, more than {MAX_ROWS:,}")
            names = file.schema_arrow.names
            columns: dict[str, list[object]] = {name: [] for name in names}
            for batch in file.iter_batches(4096):
                for name, column in zip(names, batch.columns, strict=True):
                    columns[name] += column.to_pylist()
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise DataError(str(path), f"not a Parquet file, or damaged ({summarise_error(error)})") from error
    return columns
