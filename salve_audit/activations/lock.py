"""One run at a time works on an entry of a shared cache: a lock that says whose it is, and ends with its owner.

::

    CACHE/<key>.lock              locked while its owner lives; names it, and is touched as it works

The lock is the kernel's (flock): it is gone the moment its owner is, however that ends, so there is nothing to clean up
after a kill. An owner that has not touched it for long hangs; whoever waits then works on its own, in a folder of its
own. Where there are no such locks (Windows, some network file systems), every run works in a folder of its own.

Temporary folders are locked in the same way: those of processes that were killed are removed by the next one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

if sys.platform != "win32":
    import fcntl

HANGS_S = 600  # an owner that shows no sign of life for so long is not waited for
ATTEMPTS = 3
YOUNG_S = 5  # by then a temporary folder is locked
LEFT_S = 7 * 24 * 3600  # where nothing can be locked, nobody works in a temporary folder that is so old
_held: set[int] = set()  # file descriptors of locks; a forked child would keep them locked beyond our end


@dataclass(frozen=True)
class Owner:
    """Who works on an entry.

    Attributes:
        pid: its process.
        host: its machine.
        idle_s: seconds since its last sign of life.
        patience_s: without one for so long, it is not waited for.
    """

    pid: int
    host: str
    idle_s: float = 0.0
    patience_s: float = HANGS_S

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def hangs(self) -> bool:
        """No sign of life for longer than anybody waits."""
        return self.idle_s > self.patience_s


class EntryLock:
    """A lock that is held; `release` it, or end."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor
        _held.add(descriptor)

    def touch(self) -> None:
        """Show a sign of life to whoever waits."""
        with contextlib.suppress(OSError):
            os.utime(self._descriptor)

    def release(self) -> None:
        """Let others have it; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        with contextlib.suppress(OSError):
            self.path.unlink()  # while it is locked, so that nobody has opened it in vain without noticing
        _held.discard(descriptor)
        os.close(descriptor)


@contextlib.contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A folder that is removed in the end; those of that prefix whose processes were killed are removed first.

    It may be renamed meanwhile.

    Raises:
        OSError: `parent` cannot be written.
    """
    _sweep(parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    lock = _lock_folder(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unlock(lock)


def _lock_folder(folder: Path) -> int | None:
    """A lock of the folder itself; None: another has it, or there are no such locks."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    _held.add(descriptor)
    return descriptor


def _unlock(descriptor: int | None) -> None:
    if descriptor is not None:
        _held.discard(descriptor)
        os.close(descriptor)


def _sweep(parent: Path, prefix: str) -> None:
    """Removes folders that nobody works in any more."""
    locks = can_lock(parent)
    for folder in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            age = time.time() - folder.stat().st_mtime
            if age < (YOUNG_S if locks else LEFT_S) or folder.is_symlink() or not folder.is_dir():
                continue
            lock = _lock_folder(folder) if locks else None
            if lock is None and locks:  # somebody works in it
                continue
            shutil.rmtree(folder, ignore_errors=True)
            _unlock(lock)


def can_lock(folder: Path) -> bool:
    """Whether the system and the file system of `folder`, which exists, know locks."""
    if sys.platform == "win32":
        return False
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def take_lock(path: Path) -> EntryLock | None:
    """The lock; None while another has it.

    Raises:
        OSError: the file cannot be made, or the file system knows no locks.
    """
    assert sys.platform != "win32", "see can_lock"
    for attempt in range(ATTEMPTS):
        lock = _try_lock(path)
        if lock is not None:
            return lock
        if attempt < ATTEMPTS - 1:
            time.sleep(0.02)  # somebody may only be looking whose it is
    return None


def _try_lock(path: Path) -> EntryLock | None:
    assert sys.platform != "win32", "see can_lock"
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(path, descriptor):  # released and removed between the two steps
                os.close(descriptor)
                continue
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return EntryLock(path, descriptor)


def find_owner(path: Path) -> Owner | None:
    """Who holds the lock; None: nobody does, whatever lies there."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        idle = max(0.0, time.time() - os.fstat(descriptor).st_mtime)
        return _read_owner(os.read(descriptor, 4096), idle)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _read_owner(content: bytes, idle_s: float) -> Owner:
    try:
        values = json.loads(content)
        return Owner(int(values["pid"]), str(values["host"]), idle_s)
    except (ValueError, KeyError, TypeError):  # not written yet
        return Owner(0, "this machine or another", idle_s)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        there, own = os.stat(path), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)


def _close_in_child() -> None:
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
