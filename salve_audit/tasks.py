"""Independent tasks of a stage: on threads of this process, or by whoever else is given in their place.

A task is a function at the top of a module, called with what all tasks share and with what it alone needs. That is
loaded where the task begins, so that no more of it is in memory than tasks are under way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar, runtime_checkable

MAX_THREADS = 8

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")


@runtime_checkable
class TaskMap(Protocol):
    """Runs tasks."""

    def __call__(
        self, work: Callable[[S, T], R], shared: S, loads: Iterable[Callable[[], T]], device: str = "cpu"
    ) -> list[R]:
        """``work(shared, load())`` of every load, in their order; each on one thread, and a GPU if `device` is cuda."""


def map_threads(work: Callable[[S, T], R], shared: S, loads: Iterable[Callable[[], T]], device: str = "cpu") -> list[R]:
    """The tasks on threads that share the cores, so each keeps to one for its products; and the GPU, if they use it."""
    from threadpoolctl import threadpool_limits

    n_threads = min(MAX_THREADS, os.cpu_count() or 1)
    with threadpool_limits(1), ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(lambda load: work(shared, load()), loads))
