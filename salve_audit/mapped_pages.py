"""Pages of files that are mapped into memory."""

from __future__ import annotations

import mmap

import numpy as np


def release_pages(acts: np.ndarray) -> None:
    """Gives back the pages of a file mapped for reading: they would count as this process's memory until it ends.

    Nothing happens to arrays in memory, nor where pages could hold changes that are nowhere else.
    """
    root = acts
    while isinstance(root.base, np.ndarray):
        root = root.base
    mapping: object = root.base  # numpy declares an array, a mapped file is none
    if isinstance(mapping, mmap.mmap) and not root.flags.writeable and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)
