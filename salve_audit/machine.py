"""Memory that this process may take: what ``ulimit -v``, its cgroups (a container, a Slurm job) and the machine leave.

Nothing heavy is loaded here, so that the command line can ask as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

if sys.platform != "win32":
    import resource

UNLIMITED = 2**60
CGROUPS = Path("/sys/fs/cgroup")
OUT_OF_MEMORY = (  # words of torch, oneDNN, the loader of libraries, threads and C++
    *("allocate memory", "could not create a primitive", "can't start new thread", "bad_alloc"),
    *("failed to map segment", "CUDA out of memory"),
)


@dataclass(frozen=True)
class MemoryLimit:
    """Something that limits memory.

    Attributes:
        what: in words.
        left: bytes that may still be taken.
    """

    what: str
    left: int


@dataclass(frozen=True)
class _Version:
    """Files of a version of cgroups.

    Attributes:
        controller: the folder of the memory controller, and its name in /proc/self/cgroup.
        limit, use, statistics: files of a group.
        reclaimable: the line of the statistics with pages of files, which can be dropped.
    """

    controller: str
    limit: str
    use: str
    statistics: str
    reclaimable: str


VERSIONS = (
    _Version("", "memory.max", "memory.current", "memory.stat", "inactive_file"),
    _Version("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat", "total_inactive_file"),
)


def available_memory() -> int:
    """Bytes that this process may still take: the least of what ulimit -v, its cgroups and the machine leave."""
    return find_limit().left


def find_limit() -> MemoryLimit:
    """What limits the memory of this process most now."""
    limits = (
        MemoryLimit("ulimit -v", within_process()),
        MemoryLimit("the cgroup", within_cgroups()),
        MemoryLimit("the machine", on_machine()),
    )
    return min(limits, key=lambda limit: limit.left)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error says that there is too little memory, or too little for another thread."""
    if error is None:
        return False
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's own, of a GPU
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    kinds = (RuntimeError, ImportError, OSError)
    return isinstance(error, kinds) and any(text in str(error) for text in OUT_OF_MEMORY)


def within_process() -> int:
    """Bytes that ``ulimit -v`` leaves."""
    if sys.platform == "win32":
        return UNLIMITED
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    if soft == resource.RLIM_INFINITY:
        return UNLIMITED
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return max(0, soft - pages * os.sysconf("SC_PAGE_SIZE"))
    return soft


def within_cgroups(root: Path = CGROUPS, listing: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes that the narrowest group leaves, of those from the process's own up to the root, in both versions.

    Args:
        root: where cgroups are mounted.
        listing: which groups the process is in.
    """
    left = UNLIMITED
    for version in VERSIONS:
        for folder in _own_groups(root, listing, version.controller):
            with contextlib.suppress(OSError, ValueError):
                most = int((folder / version.limit).read_text())  # "max" is no number
                used = int((folder / version.use).read_text())
                lines = dict(line.split() for line in (folder / version.statistics).read_text().splitlines())
                left = min(left, max(0, most - used + int(lines.get(version.reclaimable, 0))))
    return left


def _own_groups(root: Path, listing: Path, controller: str) -> Iterator[Path]:
    """The groups of a controller from the root, which a container sees as its own, down to the process's.

    A line of the list is ``0::/a/b`` in version 2, and ``5:cpu,memory:/a/b`` in version 1.
    """
    yield root / controller
    with contextlib.suppress(OSError, ValueError):
        for line in listing.read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            own = Path(name.strip("/"))
            if controller in controllers.split(",") and own.parts:
                yield from (root / controller / group for group in [own, *own.parents][:-1])


def on_machine() -> int:
    """Bytes that could be taken without swapping."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return UNLIMITED
