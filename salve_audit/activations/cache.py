"""Activations on disk: one folder per key, complete or absent.

::

    CACHE/<key>/acts.npy          fit rows, then audit rows; float32
    CACHE/<key>/meta.json         shape, head error, skipped images, hash of acts.npy and of itself
    CACHE/<key>.partial/          an interrupted pass, continued by the next one with the same key
    CACHE/<key>.<id>.work/        a pass that is running; its process renames it when done
    CACHE/<key>.choice            a choice that was measured once for the same inputs and machine

Renaming a folder is atomic, so audits that share a cache cannot see each other's unfinished work. Rows are appended
with plain writes: a full disk is then an error to report, not a bus error inside a memory map.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float

from salve_audit.errors import CacheError, OutputError
from salve_audit.inputs.cache_dir import user_cache_dir
from salve_audit.inputs.digest import hash_stream

ACTS, META, CHOICE = "acts.npy", "meta.json", ".choice"
ABANDONED_S = 7 * 24 * 3600  # a work folder this old belongs to a process that was killed
HINT = "name another folder with --cache DIR, or use --no-cache"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """The state of a pass: how far it has come, and in the end its result.

    Attributes:
        n_seen: images taken from the list, readable or not.
        n_fit, n_audit: rows of the two splits.
        d: activations per image, 0 before the first.
        head_error: of the head's verification; None before it.
        skipped: (path, reason) of unreadable images.
        sha256: of acts.npy once it is complete.
    """

    n_seen: int = 0
    n_fit: int = 0
    n_audit: int = 0
    d: int = 0
    head_error: float | None = None
    skipped: tuple[tuple[str, str], ...] = ()
    sha256: str = ""


def default_cache_dir() -> Path:
    """``$XDG_CACHE_HOME/salve-audit``, else ``~/.cache/salve-audit``."""
    return user_cache_dir()


@contextlib.contextmanager
def as_output_error(cache_dir: Path) -> Iterator[None]:
    """Turns failures to write into an `OutputError` that names the folder."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "the disk is full" if full else f"cannot be written ({error.strerror or error})"
        raise OutputError(str(cache_dir), why, hint=HINT) from error


def warn_unwritable(error: OutputError) -> None:
    """Tell that a pass does without the cache."""
    logger.warning("%s; activations are kept in a temporary folder, for this run alone", error)


def read_entry(cache_dir: Path, key: str) -> tuple[Float[np.ndarray, "n d"], Progress] | None:
    """The memory-mapped activations under `key`; None where there are none, or damaged ones (a warning says so)."""
    folder = cache_dir / key
    if not os.path.isdir(folder):
        return None
    try:
        progress = _read_meta(folder / META)
        if _hash_file(folder / ACTS) != progress.sha256:
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
        temporary = cache_dir / f"{key}.{uuid.uuid4().hex[:12]}.tmp"
        temporary.write_text(json.dumps(choice), encoding="utf-8")
        os.replace(temporary, cache_dir / f"{key}{CHOICE}")


class EntryWriter:
    """Appends rows to a folder of its own; `finish` makes it the entry, `suspend` leaves it to be resumed."""

    def __init__(self, cache_dir: Path, key: str) -> None:
        """Claims an interrupted pass with the same key, or starts a new one.

        Raises:
            OutputError: the folder cannot be written.
        """
        self.cache_dir, self.final = cache_dir, cache_dir / key
        self.partial = cache_dir / f"{key}.partial"
        self.work = cache_dir / f"{key}.{uuid.uuid4().hex[:12]}.work"
        with as_output_error(cache_dir):
            cache_dir.mkdir(parents=True, exist_ok=True)
            _sweep(cache_dir)
            self.progress, self.stream = self._claim()

    def _claim(self) -> tuple[Progress, BinaryIO]:
        with contextlib.suppress(OSError):  # there is none, or another process was faster
            os.rename(self.partial, self.work)
            try:
                progress = _read_meta(self.work / META)
                stream = (self.work / ACTS).open("r+b")
                n_values = progress.d * (progress.n_fit + progress.n_audit)
                expected = len(_header(progress)) + 4 * n_values if progress.d else 0
                if stream.seek(0, os.SEEK_END) < expected:
                    stream.close()
                    raise CacheError(str(self.work), "shorter than it says")
                stream.truncate(expected)
                stream.seek(expected)
                return progress, stream
            except (CacheError, OSError) as error:
                logger.warning("an interrupted pass cannot be resumed: %s", error)
                shutil.rmtree(self.work)
        self.work.mkdir()
        return Progress(), (self.work / ACTS).open("w+b")

    def append(self, acts: Float[np.ndarray, "n d"], advanced: Progress) -> None:
        """Writes rows; `advanced` is the progress with them counted, and holds from then on.

        Raises:
            OutputError: the disk is full.
        """
        assert acts.dtype == np.float32, f"activations are {acts.dtype}"
        with as_output_error(self.cache_dir):
            if self.progress.d == 0 and advanced.d:
                self.stream.write(_header(advanced))
            self.stream.write(np.ascontiguousarray(acts).data)
        self.progress = advanced  # one assignment: an interrupt finds the old state or the new one

    def finish(self) -> None:
        """Completes the files and renames the folder to its key; an entry that is there gives way.

        Raises:
            OutputError: the folder cannot be written.
        """
        with as_output_error(self.cache_dir):
            self.stream.seek(0)
            self.stream.write(_header(self.progress))
            self.stream.flush()
            os.fsync(self.stream.fileno())
            self.stream.close()
            _write_meta(self.work / META, replace(self.progress, sha256=_hash_file(self.work / ACTS)))
            _replace(self.work, self.final)
        size = (self.final / ACTS).stat().st_size
        logger.info("activations cached: %.1f MB in %s", size / 1e6, self.final)

    def suspend(self) -> None:
        """Leaves what there is for the next pass with this key; gives it up if that cannot be written."""
        if self.progress.n_seen == 0:
            return self.discard()
        try:
            self.stream.close()
            _write_meta(self.work / META, self.progress)
            os.rename(self.work, self.partial)
        except OSError:
            self.discard()
        return None

    def discard(self) -> None:
        """Removes everything this pass has written."""
        with contextlib.suppress(OSError):
            self.stream.close()
        shutil.rmtree(self.work, ignore_errors=True)


def _header(progress: Progress) -> bytes:
    """The .npy header; numpy pads it so that its length does not depend on the number of rows."""
    stream = io.BytesIO()
    shape = (progress.n_fit + progress.n_audit, progress.d)
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


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


def _hash_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hash_stream(stream)


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
    """Removes the work folders of processes that were killed long ago."""
    for folder in cache_dir.glob("*.work"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)
