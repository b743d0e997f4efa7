"""Memory that the process keeps between batches, instead of giving it back to the system and fetching it again.

A layer's output of some megabytes is mapped anew for every batch by default, and the system clears every page of it
first. For EfficientNet-Lite0 at 224 px that was half of the time of a pass (measured: 38 ms of CPU an image, 19 ms with
memory kept, batches of 8, AMD EPYC).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)
KEPT, KEPT_AHEAD, MAPPED_FROM = 2**31 - 1, 16 * 2**20, 2**30
# what glibc raises its own thresholds to at most, and its default padding
OWN_TRIM, OWN_PAD, OWN_MAPPED_FROM = 64 * 2**20, 128 * 2**10, 32 * 2**20


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Keeps freed memory of this process for its next use while the block runs; does nothing where libc is not glibc.

    Afterwards everything that is free goes back to the system.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    if not libc.mallopt(M_MMAP_THRESHOLD, MAPPED_FROM):  # older ones refuse more than this
        libc.mallopt(M_MMAP_THRESHOLD, OWN_MAPPED_FROM)
    libc.mallopt(M_TRIM_THRESHOLD, KEPT)
    libc.mallopt(M_TOP_PAD, KEPT_AHEAD)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_THRESHOLD, OWN_MAPPED_FROM)
        libc.mallopt(M_TRIM_THRESHOLD, OWN_TRIM)
        libc.mallopt(M_TOP_PAD, OWN_PAD)
        libc.malloc_trim(0)


def give_back_freed_memory() -> None:
    """Gives all that is free back to the system, once; does nothing where libc is not glibc."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library of this process if it is glibc."""
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows has no library of the process itself
        return None
    return libc if hasattr(libc, "gnu_get_libc_version") else None
