"""Rows of a running pass on disk, shard by shard: what a killed pass leaves is known to the byte.

::

    <folder>/acts.npy             float32 rows; the header tells their number once they are complete
    <folder>/shards.jsonl         a line for each shard: where it lies, its hash, the progress with it; each with a hash

A shard is written first and its line afterwards. A reader takes lines up to the first that is torn, or whose shard is
not what it was; the next pass goes on behind it. So a pass may be killed at any moment, and loses what it did since its
last shard: about two seconds.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float

from salve_audit.inputs.digest import hash_stream

ACTS, SHARDS = "acts.npy", "shards.jsonl"
SHARD_BYTES, SHARD_S = 2**23, 2.0  # a shard is written when either is reached
READ_BYTES = 2**22

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


@dataclass(frozen=True)
class _State:
    """What is on disk, and what is not yet; replaced as a whole, so that an interrupt finds the old one or the new."""

    saved: Progress = field(default_factory=Progress)
    end: int = 0  # of the rows in acts.npy
    lines_end: int = 0  # in shards.jsonl
    pending: tuple[np.ndarray, ...] = ()
    progress: Progress = field(default_factory=Progress)


class ShardWriter:
    """Appends rows in a folder; goes on where an earlier one was ended, whatever ended it.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.written_at = folder, time.monotonic()
        self.stream, self.lines = _open(folder / ACTS), _open(folder / SHARDS)
        self.state = _recover(self.stream, self.lines)

    @property
    def progress(self) -> Progress:
        """Of all rows that were appended."""
        return self.state.progress

    def append(self, acts: Float[np.ndarray, "n d"], advanced: Progress) -> bool:
        """Take rows, and write them once they are a shard; True if they were written."""
        self.state = replace(self.state, pending=(*self.state.pending, acts), progress=advanced)
        size = sum(rows.nbytes for rows in self.state.pending)
        is_due = size >= SHARD_BYTES or time.monotonic() - self.written_at >= SHARD_S
        if is_due:
            self.flush()
        return is_due

    def flush(self) -> None:
        """Write what is pending as one shard."""
        state, self.written_at = self.state, time.monotonic()
        if state.progress == state.saved:
            return
        start = state.end
        if start == 0 and state.progress.d:
            start = _write_at(self.stream, 0, npy_header(state.progress))
        content = b"".join(np.ascontiguousarray(rows).tobytes() for rows in state.pending)
        end = _write_at(self.stream, start, content)
        new = replace(state.progress, skipped=state.progress.skipped[len(state.saved.skipped) :])
        line = {"start": start, "end": end, "sha256": hashlib.sha256(content).hexdigest(), "progress": asdict(new)}
        lines_end = _write_at(self.lines, state.lines_end, _seal(line))
        self.state = _State(state.progress, end, lines_end, (), state.progress)

    def complete(self) -> str:
        """Write what is pending and the final header; the hash of acts.npy. The list stays, should this end now."""
        self.flush()
        _write_at(self.stream, 0, npy_header(self.progress))
        self.stream.truncate(max(self.state.end, self.stream.tell()))
        os.fsync(self.stream.fileno())
        self.close()
        with (self.folder / ACTS).open("rb") as stream:
            return hash_stream(stream)

    def close(self) -> None:
        """Close the files as they are."""
        self.stream.close()
        self.lines.close()


def npy_header(progress: Progress) -> bytes:
    """The .npy header; numpy pads it so that its length does not depend on the number of rows."""
    stream = io.BytesIO()
    shape = (progress.n_fit + progress.n_audit, progress.d)
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def _open(path: Path) -> BinaryIO:
    return path.open("r+b" if path.exists() else "w+b")


def _write_at(stream: BinaryIO, start: int, content: bytes) -> int:
    stream.seek(start)
    stream.write(content)
    stream.flush()
    return start + len(content)


def _recover(stream: BinaryIO, lines: BinaryIO) -> _State:
    """The state after the last whole shard; what lies behind it is written over."""
    state, n_lost = _State(), 0
    for line, lines_end in _read_lines(lines):
        if line["start"] < state.end or not _holds(stream, line):
            n_lost += 1
            break
        new = line["progress"]
        progress = replace(new, skipped=(*state.progress.skipped, *new.skipped))
        state = _State(progress, line["end"], lines_end, (), progress)
    left = stream.seek(0, os.SEEK_END)
    if n_lost or left > state.end:
        logger.info("a shard was not finished, or is damaged: the pass goes on after %d images", state.saved.n_seen)
    stream.truncate(state.end)
    lines.truncate(state.lines_end)
    return state


def _read_lines(lines: BinaryIO) -> Iterator[tuple[dict[str, Any], int]]:
    """The lines that match their hashes, up to the first that does not, each with its end in the file."""
    lines.seek(0)
    end = 0
    for raw in lines:
        end += len(raw)
        seal, _, text = raw.partition(b" ")
        if not raw.endswith(b"\n") or hashlib.sha256(text[:-1]).hexdigest().encode() != seal:
            return
        line = json.loads(text)
        values = line["progress"]
        values["skipped"] = tuple((str(path), str(reason)) for path, reason in values["skipped"])
        line["progress"] = Progress(**values)
        yield line, end


def _seal(line: dict[str, Any]) -> bytes:
    text = json.dumps(line, sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest().encode() + b" " + text + b"\n"


def _holds(stream: BinaryIO, line: dict[str, Any]) -> bool:
    """Whether the shard is what was written."""
    digest, left = hashlib.sha256(), line["end"] - line["start"]
    stream.seek(line["start"])
    while left:
        content = stream.read(min(READ_BYTES, left))
        if not content:
            return False
        digest.update(content)
        left -= len(content)
    return digest.hexdigest() == line["sha256"]
