"""Disk and memory that there are for a pass, asked before it starts."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from salve_audit.errors import OutputError

FULL = (errno.ENOSPC, errno.EDQUOT)
SPARE_BYTES = 16 * 2**20  # for what else is written there
PIXEL_BYTES = 600  # of layers' outputs for each pixel of an input, about: 300 MB for 2**19 (see `streams.BATCH_PIXELS`)
SHARE = 0.5  # of the memory that is left which batches may take: networks differ, and other threads need some


class FullError(OutputError):
    """There is no room on the disk, or there will be none: another folder is the user's choice."""


@dataclass(frozen=True)
class Need:
    """Something that will be written.

    Attributes:
        folder: where; it need not be there yet.
        n_bytes: of it.
        purpose: what it is, in the plural.
        hint: what to do where there is no room.
    """

    folder: Path
    n_bytes: int
    purpose: str
    hint: str


def check_rooms(needs: Iterable[Need], spare: int = SPARE_BYTES) -> None:
    """Find out before the work whether each disk has room for all that will be written to it.

    Args:
        needs: what will be written.
        spare: bytes that are to be left on each disk.

    Raises:
        FullError: one has not; names what is needed and what is free.
    """
    by_disk: dict[object, list[Need]] = {}
    for need in needs:
        if need.n_bytes > 0:
            by_disk.setdefault(_find_disk(need.folder), []).append(need)
    for together in by_disk.values():
        _check_disk(together, spare)


def check_room(folder: Path, n_bytes: int, purpose: str, hint: str) -> None:
    """`check_rooms` for one thing.

    Raises:
        FullError: there is no room for it.
    """
    check_rooms([Need(folder, n_bytes, purpose, hint)])


def _check_disk(needs: list[Need], spare: int) -> None:
    largest = max(needs, key=lambda need: need.n_bytes)
    try:
        free = shutil.disk_usage(_find_existing(largest.folder)).free
    except OSError:  # some network file systems do not say
        return
    n_bytes = sum(need.n_bytes for need in needs) + spare
    if free < n_bytes:
        purposes = " and ".join(need.purpose for need in needs)
        why = f"{purposes} need {describe_bytes(n_bytes)}, {describe_bytes(free)} are free on its disk"
        raise FullError(str(largest.folder), why, hint=largest.hint)


def _find_existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _find_disk(folder: Path) -> object:
    try:
        return os.stat(_find_existing(folder)).st_dev
    except OSError:
        return folder


def reserve(descriptor: int, n_bytes: int, folder: Path) -> None:
    """Take the room of a file that will be mapped: a disk that is full at a later write would end the process.

    Raises:
        FullError: there is no room.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, 0, n_bytes)
    except OSError as error:
        if error.errno in FULL:
            why = f"the disk is full; {describe_bytes(n_bytes)} are needed"
            raise FullError(str(folder), why, hint="name another folder with TMPDIR") from error
        with contextlib.suppress(OSError):  # the file system cannot do it
            os.ftruncate(descriptor, n_bytes)


def describe_bytes(n_bytes: float) -> str:
    """A size in words, decimal units."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes / 1e3:.0f} kB"


def fit_batches(batch_size: int, n_streams: int, n_pixels: int, memory: int) -> tuple[int, int]:
    """Images of a batch and number of streams that `memory` allows, at most those given, at least one of each.

    Args:
        batch_size, n_streams: wanted.
        n_pixels: of one image.
        memory: bytes that are available.
    """
    images = int(SHARE * memory / (PIXEL_BYTES * n_pixels))
    n_streams = max(1, min(n_streams, images))
    return max(1, min(batch_size, images // n_streams)), n_streams
