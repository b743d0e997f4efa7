"""Disk and memory that there are for a pass, asked before it starts."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from salve_audit.errors import OutputError

if sys.platform != "win32":
    import resource

SPARE_BYTES = 16 * 2**20  # for what else is written there
PIXEL_BYTES = 600  # of layers' outputs for each pixel of an input, about: 300 MB for 2**19 (see `streams.BATCH_PIXELS`)
SHARE = 0.5  # of the memory that is left which batches may take: networks differ, and other threads need some
UNLIMITED = 2**60
CGROUPS = (  # (limit, use, statistics, a line of these that counts as free) by version
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def check_room(folder: Path, n_bytes: int, purpose: str, hint: str) -> None:
    """Find out before the work whether the disk has room for `n_bytes` in `folder`, or in the nearest one above it.

    Raises:
        OutputError: it has not; names what is needed and what is free.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        free = shutil.disk_usage(there).free
    except OSError:  # some network file systems do not say
        return
    if free < n_bytes + SPARE_BYTES:
        why = f"{purpose} need {describe_bytes(n_bytes + SPARE_BYTES)}, {describe_bytes(free)} are free on its disk"
        raise OutputError(str(folder), why, hint=hint)


def describe_bytes(n_bytes: float) -> str:
    """A size in words, decimal units."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes / 1e3:.0f} kB"


def available_memory() -> int:
    """Bytes that this process may still take: the least of what ulimit -v, its cgroup and the machine leave."""
    return min(_within_limit(), _within_cgroups(Path("/sys/fs/cgroup")), _on_machine())


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


def _within_limit() -> int:
    if sys.platform == "win32":
        return UNLIMITED
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    if soft == resource.RLIM_INFINITY:
        return UNLIMITED
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return max(0, soft - pages * os.sysconf("SC_PAGE_SIZE"))
    return soft


def _within_cgroups(root: Path) -> int:
    """The least of all groups from this process's own up to the root; a file's pages that can be dropped are free."""
    left = UNLIMITED
    for folder in _own_cgroups(root):
        for limit, use, statistics, reclaimable in CGROUPS:
            with contextlib.suppress(OSError, ValueError):
                most = int((folder / limit).read_text())  # "max" is no number
                used = int((folder / use).read_text())
                lines = dict(line.split() for line in (folder / statistics).read_text().splitlines())
                left = min(left, max(0, most - used + int(lines.get(reclaimable, 0))))
    return left


def _own_cgroups(root: Path) -> Iterator[Path]:
    yield root
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            name = line.split(":", 2)[2].strip("/")
            if line.startswith("0::") and name:
                yield from (root / part for part in [Path(name), *Path(name).parents][:-1])


def _on_machine() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return UNLIMITED
