"""Activations on disk: one folder per key, complete or absent.

::

    CACHE/<key>/acts.npy          fit rows, then audit rows; float32
    CACHE/<key>/meta.json         shape, head error, skipped images, hash of acts.npy and of itself
    CACHE/<key>.partial/          a pass that is running, or was ended: its shards, continued by the next one (`shards`)
    CACHE/<key>.lock              of the run that works on it (`lock`)
    CACHE/<key>.<id>.work/        a pass beside one that hangs, or where there are no locks
    CACHE/<key>.choice            a choice that was measured once for the same inputs and machine

Renaming a folder is atomic, so audits that share a cache cannot see each other's unfinished work. Rows are appended
with plain writes: a full disk is then an error to report, not a bus error inside a memory map.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from salve_audit.activations.lease import Lease
from salve_audit.activations.lock import EntryLock, Owner, can_lock, find_owner, take_lock
from salve_audit.activations.remote_cache import RemoteCache
from salve_audit.activations.remote_shards import RemoteShards
from salve_audit.activations.room import FULL, FullError
from salve_audit.activations.shards import ACTS, SHARDS, Progress, ShardWriter
from salve_audit.errors import CacheError, OutputError
from salve_audit.inputs.cache_dir import user_cache_dir
from salve_audit.inputs.digest import hash_file
from salve_audit.whole_files import written_whole

META, CHOICE, PARTIAL, LOCK = "meta.json", ".choice", ".partial", ".lock"
ABANDONED_S = 7 * 24 * 3600  # a work folder this old belongs to a process that was killed
HINT = "name another folder with --cache DIR, or use --no-cache"

logger = logging.getLogger(__name__)


def default_cache_dir() -> Path:
    """``$XDG_CACHE_HOME/salve-audit``, else ``~/.cache/salve-audit``."""
    return user_cache_dir()


@contextlib.contextmanager
def as_output_error(cache_dir: Path) -> Iterator[None]:
    """Turns failures to write into an `OutputError` that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise FullError(str(cache_dir), "the disk is full", hint=HINT) from error
        raise UnwritableError(str(cache_dir), f"cannot be written ({error.strerror or error})", hint=HINT) from error


def warn_unwritable(error: UnwritableError) -> None:
    """Tell that a pass does without the cache."""
    logger.warning("%s; activations are kept in a temporary folder, for this run alone", error)


def read_entry(cache_dir: Path, key: str) -> tuple[Float[np.ndarray, "n d"], Progress] | None:
    """The memory-mapped activations under `key`; None where there are none, or damaged ones (a warning says so)."""
    folder = cache_dir / key
    if not os.path.isdir(folder):
        return None
    try:
        progress = _read_meta(folder / META)
        if hash_file(folder / ACTS) != progress.sha256:
            raise CacheError(str(folder / ACTS), "its contents have changed")
        acts = np.load(folder / ACTS, mmap_mode="r", allow_pickle=False)
        shape = (progress.n_fit + progress.n_audit, progress.d)
        if acts.shape != shape or acts.dtype != np.float32:
            raise CacheError(str(folder / ACTS), f"holds {acts.dtype} {acts.shape}, expected float32 {shape}")
    except (CacheError, OSError, ValueError, EOFError) as error:
        logger.warning("cached activations are damaged and computed again: %s", error)
        return None
    with contextlib.suppress(OSError):
        os.utime(folder)  # least recently used ones are pruned first
    return acts, progress


def read_choice(cache_dir: Path, key: str) -> dict[str, Any] | None:
    """What `write_choice` kept under `key`; None where there is nothing, or nothing that can be read."""
    try:
        choice = json.loads((cache_dir / f"{key}{CHOICE}").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return choice if isinstance(choice, dict) else None


def write_choice(cache_dir: Path, key: str, choice: Mapping[str, Any]) -> None:
    """Keeps a choice that depends on a measurement, so that the next run with these inputs makes the same.

    Raises:
        OutputError: the folder cannot be written.
    """
    with as_output_error(cache_dir):
        cache_dir.mkdir(parents=True, exist_ok=True)
        with written_whole(cache_dir / f"{key}{CHOICE}") as part:
            part.write_text(json.dumps(choice), encoding="utf-8")


class UnwritableError(OutputError):
    """The cache cannot be written, whatever room there is: a pass does without it."""


class EntryWriter:
    """Appends rows to a folder of its own; `finish` makes it the entry, `suspend` leaves it to be resumed.

    A pass that is killed, or whose process ends without either, is resumed as a suspended one.
    """

    def __init__(self, cache_dir: Path, key: str, remote: RemoteCache | None = None) -> None:
        """Claims an interrupted pass with the same key, here or in `remote`, or starts a new one.

        Raises:
            OutputError: the folder cannot be written.
        """
        self.cache_dir, self.final = cache_dir, cache_dir / key
        self.partial = cache_dir / f"{key}{PARTIAL}"
        self.sent = None if remote is None else RemoteShards(remote, self.partial, Lease(remote, key))
        with as_output_error(cache_dir):
            cache_dir.mkdir(parents=True, exist_ok=True)
            _sweep(cache_dir)
            self.lock = _take_lock(cache_dir, key)
            self.work = self.partial if self.lock else cache_dir / f"{key}.{uuid.uuid4().hex[:12]}.work"
            try:
                if self.lock is None and not can_lock(cache_dir):
                    with contextlib.suppress(OSError):  # there is none, or another process was faster
                        os.rename(self.partial, self.work)
                if self.sent is not None:
                    self.sent.restore(self.work)
                self.shards = ShardWriter(self.work)
            except BaseException:
                self._release()
                raise

    @property
    def progress(self) -> Progress:
        """How far the pass has come."""
        return self.shards.progress

    @property
    def n_saved(self) -> int:
        """Images that a next run need not see again if this one ended now."""
        return self.shards.state.saved.n_seen

    def append(self, acts: Float[np.ndarray, "n d"], advanced: Progress) -> None:
        """Takes rows; `advanced` is the progress with them counted, and holds from then on.

        Raises:
            OutputError: the disk is full.
        """
        assert acts.dtype == np.float32, f"activations are {acts.dtype}"
        with as_output_error(self.cache_dir):
            written = self.shards.append(acts, advanced)
        if written and self.lock is not None:
            self.lock.touch()
        if written and self.sent is not None:
            self.sent.send(self.work)

    def finish(self) -> None:
        """Completes the files and renames the folder to its key; an entry that is there gives way.

        Raises:
            OutputError: the folder cannot be written.
        """
        with as_output_error(self.cache_dir):
            digest = self.shards.complete()
            _write_meta(self.work / META, replace(self.progress, sha256=digest))
            _replace(self.work, self.final)
            (self.final / SHARDS).unlink(missing_ok=True)
        if self.sent is not None:
            self.sent.complete([self.final / ACTS, self.final / META])
        self._release()
        size = (self.final / ACTS).stat().st_size
        logger.info("activations cached: %.1f MB in %s", size / 1e6, self.final)

    def suspend(self) -> None:
        """Leaves what there is for the next pass with this key; of what cannot be written, what was before it."""
        if self.progress.n_seen == 0:
            return self.discard()
        with contextlib.suppress(OSError):
            self.shards.flush()
            if self.sent is not None:
                self.sent.send(self.work)
        try:
            self.shards.close()
            if self.work != self.partial:
                os.rename(self.work, self.partial)
        except OSError:
            return self.discard()
        self._release()
        return None

    def discard(self) -> None:
        """Removes everything this pass has written."""
        with contextlib.suppress(OSError):
            self.shards.close()
        shutil.rmtree(self.work, ignore_errors=True)
        self._release()

    def _release(self) -> None:
        if self.sent is not None:
            self.sent.lease.release()
        if self.lock is not None:
            self.lock.release()


def find_worker(cache_dir: Path, key: str) -> Owner | None:
    """The run that works on this entry now; None: there is none."""
    return find_owner(cache_dir / f"{key}{LOCK}")


def _take_lock(cache_dir: Path, key: str) -> EntryLock | None:
    return take_lock(cache_dir / f"{key}{LOCK}") if can_lock(cache_dir) else None


def _write_meta(path: Path, progress: Progress) -> None:
    text = json.dumps(asdict(progress), sort_keys=True)
    path.write_text(json.dumps({"progress": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}))


def _read_meta(path: Path) -> Progress:
    try:
        outer = json.loads(path.read_text(encoding="utf-8"))
        if hashlib.sha256(outer["progress"].encode()).hexdigest() != outer["sha256"]:
            raise CacheError(str(path), "does not match its own hash")
        values = json.loads(outer["progress"])
        values["skipped"] = tuple((str(file), str(reason)) for file, reason in values["skipped"])
        return Progress(**values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CacheError(str(path), "is no description of cached activations") from error


def _remove(folder: Path) -> None:
    """Renames the folder before removing it, so that nobody reads half of it."""
    doomed = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:12]}.work")
    with contextlib.suppress(OSError):
        os.rename(folder, doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _replace(folder: Path, target: Path) -> None:
    """Renames `folder` over `target`; a second audit may put its own there between the two steps."""
    for attempt in range(5):
        _remove(target)
        try:
            return os.rename(folder, target)
        except OSError:
            if attempt == 4 or not target.exists():
                raise
    return None


def _sweep(cache_dir: Path) -> None:
    """Removes the work folders and locks of processes that were killed long ago."""
    for path in (*cache_dir.glob("*.work"), *cache_dir.glob(f"*{LOCK}")):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime <= ABANDONED_S:
                continue
            if path.suffix == LOCK:
                _remove_lock(path)
            else:
                shutil.rmtree(path, ignore_errors=True)


def _remove_lock(path: Path) -> None:
    """Removes a lock that nobody holds."""
    lock = take_lock(path) if can_lock(path.parent) else None
    if lock is not None:
        lock.release()
