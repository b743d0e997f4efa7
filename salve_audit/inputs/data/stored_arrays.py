"""NPZ, NPY and IDX files: headers read and checked before a single value is; object arrays are refused."""

from __future__ import annotations

import gzip
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from salve_audit.errors import DataError
from salve_audit.inputs.data.sources.zip_index import index_zip
from salve_audit.inputs.npy_header import read_npy_header
from salve_audit.inputs.reasons import summarise_error

MAX_HELD = 1024**3  # of compressed arrays, which cannot be mapped
MAX_DIMENSIONS = 4
IDX_UINT8 = 0x08
HELD_HINT = "save it uncompressed and in C order (numpy.savez, gunzip): then it is read in place at any size"


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, described by its header.

    Attributes:
        name: in the file or of the file, without its ending.
        path: the file.
        offset: of the values in the file; None where they are compressed.
        dtype, shape, fortran: of the array.
        load: reads all values into memory.
    """

    name: str
    path: Path
    offset: int | None
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    fortran: bool
    load: Callable[[], np.ndarray]

    @property
    def n_bytes(self) -> int:
        """Size of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npz(path: Path) -> list[StoredArray]:
    """The arrays in a .npz; those that are stored plainly have an offset.

    Raises:
        DataError: damaged, or with an array of Python objects.
    """
    arrays = []
    with _naming(path):
        for member, where in index_zip(path).items():
            if not member.endswith(".npy"):
                continue
            with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
                header = read_npy_header(path, member, stream)
                begin = stream.tell()
            expected = begin + header.n_bytes
            if where.size != expected:
                raise DataError(str(path), f"damaged: {member!r} has {where.size:,} bytes, not {expected:,}")
            offset = _data_offset(path, where.offset) + begin if where.method == zipfile.ZIP_STORED else None
            load = _npz_loader(path, member)
            arrays.append(StoredArray(member.removesuffix(".npy"), path, offset, *header, load))
    return arrays


def read_npy(path: Path) -> StoredArray:
    """The array in a .npy.

    Raises:
        DataError: damaged, truncated, or of Python objects.
    """
    with _naming(path), path.open("rb") as stream:
        header = read_npy_header(path, path.name, stream)
        begin = stream.tell()
        _check_length(path, stream, begin + header.n_bytes)
    return StoredArray(path.stem, path, begin, *header, lambda: np.load(path, allow_pickle=False))


def read_idx(path: Path) -> StoredArray:
    """The array in an IDX file (MNIST's format), plain or .gz.

    Raises:
        DataError: no IDX file of bytes, or truncated.
    """
    zipped = path.suffix == ".gz"
    with _naming(path), _open_idx(path, zipped) as stream:
        head = stream.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] != IDX_UINT8 or not 1 <= head[3] <= MAX_DIMENSIONS:
            raise DataError(str(path), "not an IDX file of bytes")
        sides = stream.read(4 * head[3])
        if len(sides) < 4 * head[3]:
            raise DataError(str(path), "damaged: it ends in its header")
        shape = tuple(int(side) for side in np.frombuffer(sides, ">u4"))
        begin = stream.tell()
        if not zipped:
            _check_length(path, stream, begin + math.prod(shape))
    name = path.name.removesuffix(".gz")
    load = _idx_loader(path, zipped, begin, shape)
    return StoredArray(name, path, None if zipped else begin, np.dtype(np.uint8), shape, False, load)


class _naming:
    """Turns what damaged files raise into a DataError that names the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.strerror:
            raise DataError(str(self.path), f"cannot be read ({error.strerror})") from error
        if isinstance(
            error,
            (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, MemoryError, SyntaxError, TypeError,
             RecursionError, NotImplementedError, OverflowError, KeyError, tokenize.TokenError),
        ):  # fmt: skip
            raise DataError(str(self.path), f"damaged ({summarise_error(error)})") from error


def _data_offset(path: Path, header_offset: int) -> int:
    with path.open("rb") as stream:
        stream.seek(header_offset + 26)
        lengths = stream.read(4)
    return header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")


def _npz_loader(path: Path, member: str) -> Callable[[], np.ndarray]:
    def load() -> np.ndarray:
        with _naming(path), zipfile.ZipFile(path) as archive, archive.open(member) as stream:
            header = read_npy_header(path, member, stream)
            content = stream.read(header.n_bytes)
        if len(content) < header.n_bytes:
            raise DataError(str(path), f"damaged: {member!r} is shorter than it says")
        return np.frombuffer(content, header.dtype).reshape(header.shape, order="F" if header.fortran else "C")

    return load


def _open_idx(path: Path, zipped: bool) -> BinaryIO:
    return gzip.open(path, "rb") if zipped else path.open("rb")  # type: ignore[return-value]


def _idx_loader(path: Path, zipped: bool, begin: int, shape: tuple[int, ...]) -> Callable[[], np.ndarray]:
    def load() -> np.ndarray:
        size = math.prod(shape)
        with _naming(path), _open_idx(path, zipped) as stream:
            stream.read(begin)
            content = stream.read(size)
        if len(content) < size:
            raise DataError(str(path), f"damaged: {len(content):,} of {size:,} values")
        return np.frombuffer(content, np.uint8).reshape(shape)

    return load


def _check_length(path: Path, stream: BinaryIO, expected: int) -> None:
    size = stream.seek(0, 2)
    if size < expected:
        raise DataError(str(path), f"damaged: {size:,} bytes of {expected:,}", hint="copy it again")


def load_held(array: StoredArray) -> np.ndarray:
    """All values, in memory, where they are few enough.

    Raises:
        DataError: too large, or damaged.
    """
    if array.n_bytes > MAX_HELD:
        why = f"{array.name!r} has {array.n_bytes / 1024**2:,.0f} MiB unpacked, more than {MAX_HELD // 1024**2} MiB"
        raise DataError(str(array.path), why, hint=HELD_HINT)
    with _naming(array.path):
        return array.load()
