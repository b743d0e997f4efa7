"""One machine at a time works on an entry of a cache under a URL: a lease that says whose it is, and runs out.

::

    URL/<key>.lease        its owner, and when it gave its last sign of life

A store knows no locks that end with their owner, so an owner renews its lease as it works, and one that is not renewed
for `LEASE_S` is anybody's. Two machines may come to hold one all the same (clocks that differ by minutes, a store that
cannot create a file only where there is none): each looks whether it is still its own before it sends anything that
belongs together, so that an entry is of one machine, and all that is lost is the work of the other.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from salve_audit.activations.lock import Owner
from salve_audit.activations.remote_cache import RemoteCache

LEASE = ".lease"
BEAT_S, LEASE_S = 20.0, 180.0
VALUES = {"pid": int, "host": str, "time": float, "token": str}


@dataclass
class Lease:
    """The lease of an entry, held by this process or watched.

    Attributes:
        cache: the entry is kept in.
        key: of the entry.
        token: by which this process knows its own.
    """

    cache: RemoteCache
    key: str
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    _is_held: bool = False
    _beaten_at: float = 0.0
    _seen: tuple[bytes, float] = (b"", 0.0)  # what was read last, and since when it has been so

    def find_owner(self) -> Owner | None:
        """Who has the lease, or had it and `hangs`; None: nobody, or a process of this machine that has ended.

        An owner whose clock is wrong hangs once this machine has seen no change of the lease for as long.
        """
        content, now = self.cache.read(self._path), time.monotonic()
        if content != self._seen[0]:
            self._seen = (content, now)
        values = _parse(content)
        if values is None:
            return None
        owner = Owner(values["pid"], values["host"], patience_s=LEASE_S)
        idle_s = max(time.time() - values["time"], now - self._seen[1])
        return None if _is_gone(owner) else replace(owner, idle_s=idle_s)

    def take(self) -> bool:
        """Take the lease, if it is nobody's or its owner shows no sign of life; True if it is held."""
        for _ in range(2):
            self._is_held = self.cache.create(self._path, self._content())
            if self._is_held:
                self._beaten_at = time.monotonic()
                break
            owner = self.find_owner()
            if owner is not None and not owner.hangs:
                break
            if self._seen[0]:  # else it was released in between
                self.cache.remove(self._path)
        return self._is_held

    def beat(self) -> bool:
        """Give a sign of life, where the last is some time ago; True if the lease is still held."""
        if self._is_held and time.monotonic() - self._beaten_at >= BEAT_S:
            self._beaten_at = time.monotonic()
            if self.confirm():
                self.cache.write(self._path, self._content())
        return self._is_held

    def confirm(self) -> bool:
        """Look whether nobody else has taken the lease; True if it is still held."""
        if self._is_held:
            values = _parse(self.cache.read(self._path))
            self._is_held = values is not None and values["token"] == self.token
        return self._is_held

    def release(self) -> None:
        """Let others have it; a second call does nothing."""
        if self.confirm():
            self.cache.remove(self._path)
        self._is_held = False

    @property
    def _path(self) -> Path:
        return self.cache.folder / f"{self.key}{LEASE}"

    def _content(self) -> bytes:
        who = {"pid": os.getpid(), "host": socket.gethostname(), "time": time.time(), "token": self.token}
        return json.dumps(who).encode()


def _parse(content: bytes) -> dict[str, Any] | None:
    """What a lease says; None where there is none, or nothing that can be read."""
    try:
        values = json.loads(content)
        return {kind: as_type(values[kind]) for kind, as_type in VALUES.items()}
    except (ValueError, KeyError, TypeError):
        return None


def _is_gone(owner: Owner) -> bool:
    """True for a process of this machine that has ended: nobody need wait for its lease to run out."""
    if sys.platform == "win32" or owner.host != socket.gethostname():
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # of another user: it is there
        return False
    return False
