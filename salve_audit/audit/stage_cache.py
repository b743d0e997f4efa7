"""Results of stages on disk: one file per stage and key, complete or absent.

::

    CACHE/stages/<stage>/<key>.npz              a result: its record, the warnings it was made with, what it is about
    CACHE/stages/<stage>/<key>.npz.<id>.tmp     one that is being written; renamed when done
    CACHE/stages/<stage>/<key>.parts/           parts of a long stage until it is done, should it be ended before

Renaming is atomic, so audits that share a cache see whole results or none; two that make the same one write the same.
A zip archive has a checksum for each of its parts: a torn or damaged file is noticed and made again. Nothing in it is
executed (see `codec`).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from salve_audit.activations.remote_cache import RemoteCache
from salve_audit.audit.cache_folder import ABOUT, DAMAGED, PARTS, STAGES, SUFFIX, prune
from salve_audit.audit.codec import decode, encode
from salve_audit.whole_files import written_whole

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptResult:
    """A stage's result with the warnings that were said while it was made."""

    record: Any
    warnings: tuple[str, ...]


@dataclass
class StageCache:
    """The stage results in a cache folder.

    Attributes:
        folder: of the cache; None: nothing is kept.
        max_bytes: size of the whole cache, activations included, beyond which the least recently used goes.
        about: model and data in words, for lists of the cache.
        remote: what `folder` is the folder of, where the cache lies under a URL.
        used: files and folders that the running audit has read or written; they are never removed by it.
    """

    folder: Path | None
    max_bytes: int
    about: str = ""
    remote: RemoteCache | None = None
    used: set[Path] = field(default_factory=set)

    def holds(self, stage: str, key: str) -> bool:
        """True if there is a result, damaged or not; one that is kept under a URL is fetched."""
        if self.folder is None:
            return False
        file = self._file(self.folder, stage, key)
        return file.is_file() or (self.remote is not None and self.remote.fetch(file))

    def may_hold(self, stage: str, start: str) -> bool:
        """True if there is a result whose key begins so."""
        if self.folder is None:
            return False
        folder = self.folder / STAGES / stage
        names = self.remote.list_names(folder) if self.remote is not None else []
        return any(folder.glob(f"{start}*")) or any(name.startswith(start) for name in names)

    def recall(self, stage: str, key: str, kind: Any) -> KeptResult | None:
        """The result of type `kind` under `key`; None where there is none, or a damaged one (a warning says so)."""
        if self.folder is None or not self.holds(stage, key):
            return None
        file = self._file(self.folder, stage, key)
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as members:
                arrays = {name: members[name] for name in members.files if name != ABOUT}
            warnings = tuple(str(text) for text in arrays.pop("warnings"))
            record = decode(kind, arrays)
        except DAMAGED as error:
            log.warning("a cached result (%s) is damaged and computed again: %s", stage, error)
            return None
        with contextlib.suppress(OSError):
            os.utime(file)  # least recently used ones are pruned first
        self.used.add(file)
        return KeptResult(record, warnings)

    def keep(self, stage: str, key: str, result: KeptResult) -> None:
        """Store a result; a folder that cannot be written is a warning, and nothing more is kept then."""
        if self.folder is None:
            return
        file = self._file(self.folder, stage, key)
        texts = {"warnings": np.array(result.warnings, dtype=str), ABOUT: np.array(self.about)}
        try:
            (self.folder / STAGES).mkdir(mode=0o700, parents=True, exist_ok=True)  # small images may be among it
            file.parent.mkdir(exist_ok=True)
            with written_whole(file) as part, part.open("wb") as stream:
                np.savez(stream, **encode(result.record), **texts)  # type: ignore[arg-type]  # a keyword of its own
        except OSError as error:
            self.give_up(error.strerror or str(error))
            return
        self.used.add(file)
        if self.remote is not None:
            self.remote.send(file)
        prune(self.folder, self.max_bytes, self.used)

    def parts(self, stage: str, key: str) -> Callable[[str], StageParts] | None:
        """Gives a store for parts of a stage by what they are of; None: nothing is kept."""
        if self.folder is None:
            return None
        folder = self._file(self.folder, stage, key).with_suffix(PARTS)

        def store(of: str) -> StageParts:
            own = folder / hashlib.sha256(of.encode()).hexdigest()[:16]
            if self.remote is not None:
                self.remote.fetch_parts(own)
            return StageParts(own, self.remote)

        return store

    def drop_parts(self, stage: str, key: str) -> None:
        """Remove the parts of a stage that is done."""
        if self.folder is None:
            return
        folder = self._file(self.folder, stage, key).with_suffix(PARTS)
        if self.remote is not None and folder.is_dir():
            self.remote.remove(folder)
        shutil.rmtree(folder, ignore_errors=True)

    def give_up(self, why: str) -> None:
        """Warn that nothing is kept, and keep nothing from now on."""
        log.warning("%s: the cache cannot be written (%s); nothing is kept for the next audit", self.folder, why)
        self.folder = None

    @staticmethod
    def _file(folder: Path, stage: str, key: str) -> Path:
        return folder / STAGES / stage.replace(" ", "-") / f"{key}{SUFFIX}"


@dataclass
class StageParts:
    """Arrays by name in a folder, each complete or absent; one that cannot be read is absent."""

    folder: Path
    remote: RemoteCache | None = None

    def recall(self, name: str) -> dict[str, np.ndarray] | None:
        """What was kept under `name`; None: nothing, or nothing whole."""
        try:
            file = self.folder / f"{name}{SUFFIX}"
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as members:
                return {key: members[key] for key in members.files}
        except DAMAGED:
            return None

    def keep(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep arrays."""
        file = self.folder / f"{name}{SUFFIX}"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with written_whole(file) as part, part.open("wb") as stream:
                np.savez(stream, **arrays)  # type: ignore[arg-type]  # a keyword of its own
        except OSError:
            return
        if self.remote is not None:
            self.remote.send(file)
