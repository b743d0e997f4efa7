"""Images in a column of Parquet or Arrow files, read in place; a few row groups are kept, never a whole file."""

from __future__ import annotations

import bisect
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from salve_audit.inputs.data.sources.arrow import ArrowFile
from salve_audit.inputs.data.sources.source import MAX_BYTES, describe_too_large
from salve_audit.inputs.reasons import summarise_error

MAX_GROUP_BYTES = 512 * 1024**2  # of the images of one row group
MAX_KEPT_BYTES = 256 * 1024**2  # of row groups kept, besides the one just read
MAX_KEPT = 4
ROWS_AT_ONCE = 64  # decoded between two looks at the size
TOO_LARGE = f"in a row group of more than {MAX_GROUP_BYTES // 1024**2} MiB; write smaller ones"
ARROW, PARQUET = "arrow", "parquet"


@dataclass(frozen=True)
class TableFile:
    """A file of rows.

    Attributes:
        path: the file.
        kind: ``arrow`` or ``parquet``.
        column: the images.
        leaf: path of their bytes in a Parquet file, ``image`` or ``image.bytes``.
        starts: first row of every row group (Parquet) or record batch (Arrow), and the number of rows.
    """

    path: Path
    kind: str
    column: str
    leaf: str
    starts: tuple[int, ...]


@dataclass(frozen=True)
class TableSource:
    """Rows of table files; keys are ``NAME/ROW``.

    Attributes:
        files: by name.
    """

    files: dict[str, TableFile]
    resident_bytes: int = 0
    _groups: _GroupCache = field(default_factory=lambda: _GroupCache(), compare=False, repr=False)

    def read(self, key: str) -> bytes:
        """The encoded image of a row.

        Raises:
            OSError: the file cannot be read.
            ValueError: damaged, no bytes in the row, or far too large.
        """
        name, _, row = key.rpartition("/")
        file = self.files[name]
        group = _find_group(file.starts, int(row))
        cells = self._groups.get(file, group)
        return image_of(cells[int(row) - file.starts[group]])


def image_of(cell: Any) -> bytes:
    """The encoded image in a cell: bytes, or a struct with ``bytes``.

    Raises:
        ValueError: there are none, or far too many.
    """
    value = cell.as_py() if hasattr(cell, "as_py") else cell
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes) or not content:
        raise ValueError("the row holds no image, only a path or nothing; nothing else is opened for it")
    if len(content) > MAX_BYTES:
        raise ValueError(describe_too_large(len(content)))
    return content


def _find_group(starts: tuple[int, ...], row: int) -> int:
    return bisect.bisect_right(starts, row) - 1


class _GroupCache:
    """The row groups used last; every process and every copy starts with none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: OrderedDict[tuple[TableFile, int], Any] = OrderedDict()
        self._arrow: dict[TableFile, ArrowFile] = {}
        self._refused: dict[tuple[TableFile, int], str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    def get(self, file: TableFile, group: int) -> Any:
        """The images of a row group, as a sequence of cells."""
        with self._lock:
            if (file, group) in self._groups:
                self._groups.move_to_end((file, group))
                return self._groups[file, group]
            if (file, group) in self._refused:
                raise ValueError(self._refused[file, group])
            try:
                cells = self._read(file, group)
            except ValueError as error:  # every row of the group would decode it again, up to the limit
                self._refused[file, group] = str(error)
                raise
            self._groups[file, group] = cells
            while len(self._groups) > 1 and (
                len(self._groups) > MAX_KEPT or sum(held.nbytes for held in self._groups.values()) > MAX_KEPT_BYTES
            ):
                self._groups.popitem(last=False)
            return cells

    def _read(self, file: TableFile, group: int) -> Any:
        if file.kind == PARQUET:
            return read_group(file, group)
        if file not in self._arrow:
            self._arrow[file] = ArrowFile.open(file.path)
        return self._arrow[file].read(group, [file.column]).column(0)


def read_group(table: TableFile, group: int) -> Any:
    """The images of one Parquet row group, as a pyarrow array.

    The file is not mapped: one that is cut off meanwhile would kill the process.
    Values are read as a dictionary: a hostile file may hold one huge value once and repeat it in every row.

    Raises:
        OSError: the file cannot be read.
        ValueError: damaged, or too large to be held.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(table.path, read_dictionary=[table.leaf]) as file:
            parts, held = [], 0
            # not the columns' own sizes: reading their metadata aborts the process on a damaged file (pyarrow 26)
            if file.metadata.row_group(group).total_byte_size > MAX_GROUP_BYTES:
                raise ValueError(TOO_LARGE)
            for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[table.column]):
                held += batch.nbytes
                if held > MAX_GROUP_BYTES:
                    raise ValueError(TOO_LARGE)
                parts.append(batch.column(0))
            return pa.chunked_array(parts)
    except (pa.ArrowException, MemoryError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"damaged ({summarise_error(error)})") from error
