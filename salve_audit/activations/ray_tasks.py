"""Tasks of a stage on the workers of a Ray cluster: thresholds by class, trainings by seed.

A task whose worker or machine is lost runs again elsewhere. Each keeps to one thread, as the tasks of one process do
(`salve_audit.tasks`), so its numbers are the same on the same kind of processor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from salve_audit.activations.ray_cluster import connected, count_places
from salve_audit.errors import SalveError, UsageError
from salve_audit.inputs.reasons import summarise_error

AHEAD = 2  # tasks for each processor or GPU that are waiting or under way
MOST_TRIES = 4

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class RayTasks:
    """A `TaskMap` on a cluster.

    Attributes:
        address: as `RayEngine` has it.
    """

    address: str | None = None

    def __call__(
        self, work: Callable[[S, T], R], shared: S, loads: Iterable[Callable[[], T]], device: str = "cpu"
    ) -> list[R]:
        """``work(shared, load())`` of every load, in their order; `shared` is sent to each machine once.

        Raises:
            UsageError: Ray is not installed, no cluster is found, it has no GPU, or a task is lost at every try.
            SalveError: as the task raises it.
        """
        with connected(self.address) as ray:
            n_places, options = count_places(ray, device)
            task = ray.remote(**options, max_retries=MOST_TRIES)(run_task)
            given, n_most = ray.put(shared), AHEAD * n_places
            pending: deque[Any] = deque()
            results: list[R] = []
            for load in loads:
                if len(pending) >= n_most:
                    results.append(_take(ray, pending.popleft()))
                pending.append(task.remote(work, given, load()))
            return results + [_take(ray, reference) for reference in pending]


def run_task(work: Callable[[S, T], R], shared: S, own: T) -> R:
    """A task, in the process of a worker."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    with threadpool_limits(1):
        return work(shared, own)


def _take(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, (SalveError, MemoryError)):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        why = f"a worker of the cluster failed ({summarise_error(error)})"
        raise UsageError("--engine ray", why, hint="-v shows more; --engine local does without a cluster") from error
