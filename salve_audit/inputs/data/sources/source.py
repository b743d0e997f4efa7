"""The protocol of image sources, and the plainest source: files below a folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_BYTES = 256 * 1024**2  # of one image's file; 50 million pixels of four bytes are 200 MB
Content: TypeAlias = "bytes | npt.NDArray[np.uint8] | npt.NDArray[np.float32]"


class ImageSource(Protocol):
    """Reads images by key, from any process: picklable, holds no open file, equal by value."""

    @property
    def resident_bytes(self) -> int:
        """Bytes held in memory, which every spawned process would hold again."""

    def read(self, key: str) -> Content:
        """An encoded image, its pixels as (h, w) or (h, w, c), or (c, h, w) float32 as the network takes them.

        Raises:
            OSError: the file cannot be read.
            ValueError: the entry is damaged or refused; the message is one line without the key.
        """


@dataclass(frozen=True)
class FolderSource:
    """Files below `root`; keys are relative posix paths."""

    root: Path
    resident_bytes: int = 0

    def read(self, key: str) -> bytes:
        """Bytes of the file `key`."""
        with open(f"{self.root}/{key}", "rb", buffering=0, opener=open_at_once) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ValueError("no plain file")
            if os.fstat(stream.fileno()).st_size > MAX_BYTES:
                raise ValueError(describe_too_large(os.fstat(stream.fileno()).st_size))
            return stream.read()

    def read_head(self, key: str, n_bytes: int) -> bytes:
        """The first bytes of the file `key`."""
        with open(f"{self.root}/{key}", "rb", buffering=0, opener=open_at_once) as stream:
            return stream.read(n_bytes)


def reader_of_heads(source: ImageSource) -> Callable[[str, int], bytes] | None:
    """Reads the first bytes of what a source holds, empty where that fails; None where it would cost a whole image."""
    read_head: Callable[[str, int], bytes] | None = getattr(source, "read_head", None)
    if read_head is None:
        return None

    def read(key: str, n_bytes: int) -> bytes:
        try:
            return read_head(key, n_bytes)
        except (OSError, ValueError):
            return b""

    return read


def count_readers(source: ImageSource) -> int:
    """Reads at once that pay: several where each waits for a network, else one."""
    return getattr(source, "n_readers", 1)


def open_at_once(path: str, flags: int) -> int:
    """Opens without blocking: a pipe would wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def describe_too_large(size: int) -> str:
    """The reason for which an image of so many bytes is not read."""
    return f"{size / 1024**2:,.0f} MiB, more than {MAX_BYTES // 1024**2} MiB for one image"
