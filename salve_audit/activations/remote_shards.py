"""Shards of a running pass in a cache under a URL: a pass that was ended here goes on on another machine.

::

    URL/<key>.partial/000000.shard     a line of shards.jsonl and the rows that it describes (`shards`)

What is fetched is only taken as far as each shard continues the one before: two machines may have made the same entry
at once, with shards that end in other places. The line's own hashes are looked at when the pass goes on. Only who holds
the entry's `lease` sends any.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salve_audit.activations.lease import Lease
from salve_audit.activations.remote_cache import RemoteCache
from salve_audit.activations.shards import ACTS, SHARDS


@dataclass
class RemoteShards:
    """The shards of one entry.

    Attributes:
        cache: they are kept in.
        folder: of the pass, here, in the cache's folder; its name is that of the shards' folder there.
        lease: of the entry.
    """

    cache: RemoteCache
    folder: Path
    lease: Lease
    _n_sent: int = 0
    _offset: int = 0  # in the file of lines, of those that were sent

    def restore(self, work: Path) -> None:
        """Takes the lease, if it can be had, and puts the shards that are there into `work`, where that has fewer."""
        self.lease.take()
        lines = _read_lines(work)
        n_there = len(self.cache.list_names(self.folder))
        if n_there > len(lines):
            lines = self._rebuild(work, n_there)
        self._n_sent = min(n_there, len(lines))
        self._offset = sum(map(len, lines[: self._n_sent]))

    def send(self, work: Path) -> None:
        """Sends the shards that were written since the last time."""
        if not self.lease.beat() or not (work / SHARDS).exists():
            return
        with (work / SHARDS).open("rb") as lines, (work / ACTS).open("rb") as rows:
            lines.seek(self._offset)
            for line in lines:
                values = _parse(line)
                rows.seek(values["start"])
                content = line + rows.read(values["end"] - values["start"])
                if not self.cache.write(self._name(self._n_sent), content):
                    return
                self._n_sent, self._offset = self._n_sent + 1, self._offset + len(line)

    def complete(self, files: Iterable[Path]) -> None:
        """Sends the whole entry, the file last that tells that it is whole, and removes the shards."""
        if self.lease.confirm():
            for file in files:
                self.cache.send(file)
            if self._n_sent:
                self.cache.remove(self.folder)
        self.lease.release()

    def _rebuild(self, work: Path, n_there: int) -> list[bytes]:
        lines: list[bytes] = []
        work.mkdir(exist_ok=True)
        with (work / ACTS).open("wb") as rows, (work / SHARDS).open("wb") as listed:
            last: dict[str, Any] | None = None
            for number in range(n_there):
                line, newline, content = self.cache.read(self._name(number)).partition(b"\n")
                values = _parse(line)
                if not _continues(last, values, len(content)):
                    break
                rows.seek(values["start"])
                rows.write(content)
                listed.write(line + newline)
                lines.append(line + newline)
                last = values
        return lines

    def _name(self, number: int) -> Path:
        return self.folder / f"{number:06d}.shard"


def _read_lines(work: Path) -> list[bytes]:
    try:
        with (work / SHARDS).open("rb") as stream:
            return stream.readlines()
    except OSError:
        return []


def _parse(line: bytes) -> dict[str, Any]:
    """What a line says; nothing where it is torn."""
    try:
        values = json.loads(line.partition(b" ")[2])
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _continues(last: dict[str, Any] | None, values: dict[str, Any], n_bytes: int) -> bool:
    """True if a shard begins where the last one ended, in bytes and in images."""
    try:
        before, after = {} if last is None else last["progress"], values["progress"]
        n_rows = sum(after[part] - before.get(part, 0) for part in ("n_fit", "n_audit"))
        counted = after["n_seen"] - before.get("n_seen", 0) == n_rows + len(after["skipped"])
        follows = last is None or values["start"] == last["end"]
        return bool(counted and follows and values["end"] - values["start"] == n_bytes == 4 * n_rows * after["d"])
    except (KeyError, TypeError):
        return False
