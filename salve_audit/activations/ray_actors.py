"""Copies of a network on the processors of a Ray cluster, for stages that run batches of images through it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from salve_audit.activations.actors import Pool
from salve_audit.activations.ray_cluster import connected, count_places
from salve_audit.activations.ray_engine import put_network
from salve_audit.activations.ray_pool import ActorPool
from salve_audit.errors import UsageError
from salve_audit.inputs.reasons import summarise_error


@dataclass(frozen=True)
class RayActors:
    """`OpenActors` of a cluster: one for each processor, or each GPU.

    Attributes:
        address: as `RayEngine` has it.
    """

    address: str | None = None

    @contextmanager
    def __call__(self, kind: type, shared: tuple[Any, ...], device: str = "cpu") -> Iterator[Pool]:
        """The actors, ended with the block.

        Raises:
            UsageError: Ray is not installed, no cluster is found, or it has no GPU.
            CheckpointError: the network cannot be sent.
        """
        with connected(self.address) as ray:
            n, options = count_places(ray, device)
            given, actor = put_network(ray, *shared), ray.remote(**options)(kind)
            pool = ActorPool(ray, lambda: actor.remote(*given), n)
            try:
                yield _Shown(ray, pool)
            finally:
                pool.close()


@dataclass(frozen=True)
class _Shown:
    """A pool as a stage sees it."""

    ray: Any
    pool: ActorPool

    def run(self, calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """As `Pool` has it.

        Raises:
            UsageError: the worker of a call is lost at every try.
        """
        try:
            yield from self.pool.run(calls)
        except self.ray.exceptions.RayTaskError:
            raise  # it is an error of the task's own kind as well
        except self.ray.exceptions.RayError as error:
            why = f"a worker of the cluster failed ({summarise_error(error)})"
            raise UsageError("--engine ray", why, hint="--engine local does without a cluster") from error

    def share(self, value: Any) -> Any:
        """A list of a reference: what is inside of a list is not fetched before it is asked for."""
        return [self.ray.put(value)]


def fetch(given: Any) -> Any:
    """In a worker: what `share` was given."""
    import ray

    return ray.get(given[0])
