"""Images that are rows of an array: read in place where the file allows it, never unpickled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ArrayPart:
    """An array of uint8 images, in a file or in memory.

    Attributes:
        shape: (n, h, w) or (n, h, w, c), or (n, c, h, w) where `channels_first`.
        path, offset: the file and where its values begin; or None and `held`.
        held: the values, (n, ...).
    """

    shape: tuple[int, ...]
    channels_first: bool = False
    path: Path | None = None
    offset: int = 0
    held: npt.NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)

    def read(self, row: int) -> npt.NDArray[np.uint8]:
        """Pixels of one image, (h, w) or (h, w, c).

        Raises:
            OSError: the file cannot be read.
            ValueError: the file has become shorter.
        """
        pixels = self._row(row)
        return np.ascontiguousarray(pixels.transpose(1, 2, 0) if self.channels_first else pixels)

    def _row(self, row: int) -> npt.NDArray[np.uint8]:
        if self.held is not None:
            return self.held[row]
        assert self.path is not None, "an array is in a file or held"
        size = math.prod(self.shape[1:])
        with self.path.open("rb", buffering=0) as stream:
            stream.seek(self.offset + row * size)
            content = stream.read(size)
        if len(content) < size:
            raise ValueError("damaged (the file has become shorter)")
        return np.frombuffer(content, np.uint8).reshape(self.shape[1:])


@dataclass(frozen=True)
class ArraySource:
    """Rows of several arrays; keys are ``NAME/ROW``."""

    parts: Mapping[str, ArrayPart]

    @property
    def resident_bytes(self) -> int:
        """Bytes of the arrays that are held in memory."""
        return sum(part.held.nbytes for part in self.parts.values() if part.held is not None)

    def read(self, key: str) -> npt.NDArray[np.uint8]:
        """Pixels of the image `key`, (h, w) or (h, w, c)."""
        name, _, row = key.rpartition("/")
        return self.parts[name].read(int(row))
