"""Processes with a state, somewhere: what a stage asks of a cluster without knowing which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Pool(Protocol):
    """Processes that hold the same."""

    def run(self, calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Results of the processes' method ``run(*call)`` in the order of the calls, of which a few are taken ahead."""

    def share(self, value: Any) -> Any:
        """Something that may be part of many calls, and is sent to a process only once it asks for it with `fetch`."""


class OpenActors(Protocol):
    """Starts processes."""

    def __call__(self, kind: type, shared: tuple[Any, ...], device: str = "cpu") -> AbstractContextManager[Pool]:
        """Objects ``kind(*shared)``, each in a process, while the block runs; the first of `shared` is the network.

        `device` is cpu, or cuda: then each has a GPU.
        """
