"""The header of an array in NPY format, read and checked before a single value is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from salve_audit.errors import DataError

READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class NpyHeader(NamedTuple):
    """Type, shape and order (Fortran's or C's) of an array."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool

    @property
    def n_bytes(self) -> int:
        """Size of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy_header(path: Path, name: str, stream: IO[bytes]) -> NpyHeader:
    """The header of array `name` in `path`; `stream` then stands at the first value.

    Raises:
        DataError: the array holds Python objects, is of an unknown version, or has a shape that cannot be.
        ValueError: no header is there (what numpy raises of damaged ones).
    """
    version = np.lib.format.read_magic(stream)
    if version not in READERS:
        raise DataError(str(path), f"array {name!r} is of NPY version {version}, expected 1 or 2")
    shape, fortran, dtype = READERS[version](stream)
    if dtype.hasobject:
        why = f"array {name!r} holds Python objects, which need code to be read; refused"
        raise DataError(str(path), why, hint="save it as numbers, or as text with a fixed-width type")
    if any(side < 0 for side in shape):
        raise DataError(str(path), f"damaged: {name!r} has the shape {shape}")
    return NpyHeader(dtype, shape, fortran)
