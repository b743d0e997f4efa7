"""What lies in a cache folder: activations and stage results alike, listed, removed, and bounded in size.

It is found without loading torch, so that ``salve-audit cache`` answers at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import struct
import time
import uuid
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from salve_audit.activations.cache import ABANDONED_S, META, PARTIAL, default_cache_dir, find_worker
from salve_audit.activations.remote_cache import RemoteCache
from salve_audit.activations.shards import ACTS
from salve_audit.errors import CacheError
from salve_audit.inputs.remote import RemoteFolder, is_url

STAGES, SUFFIX, PARTS = "stages", ".npz", ".parts"
REMOTE = "remote"  # folder of the folders of caches that lie under URLs
ABOUT = "about"  # name of the text in a result's file that says what it is about
DAMAGED = (  # whatever zipfile and numpy raise for a file that is not what it was
    *(CacheError, OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, SyntaxError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
ACTIVATIONS = "activations"
GIGABYTE = 10**9


@dataclass(frozen=True)
class CacheEntry:
    """One result in the cache.

    Attributes:
        stage: that it is the result of.
        key: hash of all that it depends on.
        path: its file, or folder.
        n_bytes: on disk.
        used: when it was last written or read, in seconds since the epoch.
    """

    stage: str
    key: str
    path: Path
    n_bytes: int
    used: float

    def describe(self) -> str:
        """What it is about, as far as its file says it."""
        return _describe_activations(self.path) if self.stage == ACTIVATIONS else _describe_result(self.path)


def find_cache_dir(given: str | Path | None) -> Path | None:
    """The folder that is given, else the user's; for a URL one inside of that. None where the user has no home."""
    if is_url(given):
        home = find_cache_dir(None)
        return None if home is None else home / REMOTE / hashlib.sha256(str(given).encode()).hexdigest()[:16]
    if given is not None:
        return Path(given)
    try:
        return default_cache_dir()
    except RuntimeError:  # neither HOME nor an entry in the list of users
        return None


def find_remote(given: str | Path | None) -> RemoteCache | None:
    """The cache that a URL names, with its folder on this machine; None: it is a folder.

    Raises:
        UsageError: the package for such URLs is not installed.
    """
    folder = find_cache_dir(given)
    return RemoteCache(folder, RemoteFolder.open(str(given))) if is_url(given) and folder is not None else None


def list_entries(folder: Path) -> list[CacheEntry]:
    """All entries, the most recently used first; unfinished work of running audits is none."""
    entries = [*_find_activations(folder), *_find_results(folder)]
    return sorted(entries, key=lambda entry: (-entry.used, entry.stage, entry.key))


def remove_entry(entry: CacheEntry) -> bool:
    """Remove an entry; an audit that reads it now goes on. False: it cannot be removed."""
    if not entry.path.is_dir():
        with contextlib.suppress(OSError):
            entry.path.unlink(missing_ok=True)
        return not entry.path.exists()
    doomed = entry.path.with_name(f"{entry.path.name}.{uuid.uuid4().hex[:12]}.work")
    with contextlib.suppress(OSError):
        entry.path.rename(doomed)  # first, so that nobody reads half of it
        shutil.rmtree(doomed, ignore_errors=True)
    return not entry.path.exists()


def prune(folder: Path, max_bytes: int, keep: Collection[Path]) -> list[CacheEntry]:
    """Remove the least recently used entries until the cache is no larger than `max_bytes`; returns the removed ones.

    Args:
        folder: of the cache.
        max_bytes: of all entries together.
        keep: paths that are in use; they count, and stay.
    """
    _sweep(folder)
    entries = list_entries(folder)
    total, removed = sum(entry.n_bytes for entry in entries), []
    for entry in reversed(entries):
        if total <= max_bytes:
            break
        if entry.path not in keep and remove_entry(entry):
            total -= entry.n_bytes
            removed.append(entry)
    return removed


def _find_activations(folder: Path) -> Iterator[CacheEntry]:
    for acts in folder.glob(f"*/{ACTS}"):
        key, suffix = acts.parent.stem, acts.parent.suffix
        if suffix == ".work" or (suffix == PARTIAL and find_worker(folder, key) is not None):
            continue
        with contextlib.suppress(OSError):
            used, n_bytes = acts.parent.stat().st_mtime, acts.stat().st_size
            yield CacheEntry(ACTIVATIONS, acts.parent.name, acts.parent, n_bytes, used)


def _find_results(folder: Path) -> Iterator[CacheEntry]:
    for parts in (folder / STAGES).glob(f"*/*{PARTS}"):
        with contextlib.suppress(OSError):
            sizes = [file.stat().st_size for file in parts.glob("*/*")]
            yield CacheEntry(parts.parent.name, parts.name, parts, sum(sizes), parts.stat().st_mtime)
    for file in (folder / STAGES).glob(f"*/*{SUFFIX}"):
        with contextlib.suppress(OSError):
            status = file.stat()
            yield CacheEntry(file.parent.name, file.stem, file, status.st_size, status.st_mtime)


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed long ago have left unfinished."""
    for pattern in ("*/*.tmp", f"*/*{PARTS}"):
        for path in (folder / STAGES).glob(pattern):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED_S:
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _describe_result(file: Path) -> str:
    if file.suffix == PARTS:
        return "a stage that runs or was ended"
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as members:
            return str(members[ABOUT])
    except DAMAGED:
        return "damaged"


def _describe_activations(folder: Path) -> str:
    if folder.suffix == PARTIAL:
        return "an interrupted pass"
    try:
        progress = json.loads(json.loads((folder / META).read_text(encoding="utf-8"))["progress"])
        return f"{progress['n_fit'] + progress['n_audit']:,} images, {progress['d']:,} activations each"
    except (OSError, ValueError, KeyError, TypeError):
        return "damaged"
