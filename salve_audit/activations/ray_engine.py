"""The backbone pass on a Ray cluster: a pool of actors, each with a copy of the network, on CPUs or GPUs.

Batches are those of a pass in one process, and their activations are taken in order, so that an entry of the cache is
the same whoever has made it, up to what other processors' arithmetic changes. What a lost worker or machine was at is
run again by the others (`ray_pool`); of the driver's own end the cache's shards remember what was done (`shards`).

Images are read by the workers: where there are several machines, DATA lies where all of them see it under one path.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from salve_audit import errors
from salve_audit.activations.backbone import Acts, PassSettings, compute_batch, watching_inputs
from salve_audit.activations.images import Batch, ImageDataset, read_batch
from salve_audit.activations.ray_cluster import connected, count_places
from salve_audit.activations.ray_pool import ActorPool
from salve_audit.activations.streams import copy_for_streams
from salve_audit.errors import CheckpointError, SalveError
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.inputs.data.sources.source import ImageSource
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.exact import exact_convolutions
from salve_audit.inputs.reasons import summarise_error

logger = logging.getLogger(__name__)
USER_CODE = "salve_audit_user_"  # names of modules that are loaded from files of the user

Answer = tuple[Batch | None, Acts | None, tuple[str, str, str, str | None] | None]  # or an error, in words


@dataclass(frozen=True)
class RayEngine:
    """Runs batches on a cluster.

    Attributes:
        address: of the cluster; None: one that runs here, else one of this machine's processes for the while.
        n_workers: actors; None: one for each GPU, or each CPU.
    """

    address: str | None = None
    n_workers: int | None = None

    def __call__(
        self, classifier: Classifier, imageset: ImageSet, paths: Sequence[str], settings: PassSettings
    ) -> Generator[tuple[Batch, Acts], None, None]:
        """The batches of `paths` in order with their activations.

        Raises:
            UsageError: Ray is not installed, or no cluster is found.
            SalveError: as a pass in one process.
        """
        with connected(self.address) as ray:
            pool = _open_pool(ray, classifier, imageset.reader, settings, self.n_workers)
            try:
                yield from _collect(ray, pool, _cut(paths, settings.batch_size))
            finally:
                pool.close()


class Worker:
    """A process of the cluster with a copy of the network."""

    def __init__(self, classifier: Classifier, source: ImageSource, settings: PassSettings) -> None:
        torch.set_num_threads(1)
        device = torch.device("cuda" if settings.device.type == "cuda" and torch.cuda.is_available() else "cpu")
        self.classifier, self.source = classifier, source
        self.settings, self.stack = replace(settings, device=device), ExitStack()
        (copy,) = copy_for_streams(classifier, device, 1)
        self.stack.enter_context(exact_convolutions())
        self.compute = self.stack.enter_context(watching_inputs(copy, self.settings))

    def run(self, start: int, paths: Sequence[str], with_images: bool) -> Answer:
        """A batch, its rows counted from the first of all; errors for the user are given back in words."""
        dataset = ImageDataset(self.source, paths, self.classifier.transform)
        try:
            batch, acts = compute_batch(self.compute, lambda: read_batch(dataset, range(len(paths))))
        except SalveError as error:
            return None, None, (type(error).__name__, error.what, error.why, error.hint)
        rows = [start + row for row in batch.rows]
        skipped = [(start + row, reason) for row, reason in batch.skipped]
        return Batch(batch.images if with_images else torch.empty(0), rows, skipped), acts, None


Task = tuple[int, Sequence[str], bool]  # place of the first path among all, paths of a batch, are images wanted too


def _cut(paths: Sequence[str], size: int) -> Iterator[Task]:
    return ((start, paths[start : start + size], start == 0) for start in range(0, len(paths), size))


def _open_pool(
    ray: Any, classifier: Classifier, source: ImageSource, settings: PassSettings, n_workers: int | None
) -> ActorPool:
    there, options = count_places(ray, settings.device.type)
    plain = replace(settings, advance=None, engine=None)  # neither can be sent
    shared = put_network(ray, classifier, source, plain)
    actor = ray.remote(**options)(Worker)
    n = min(there, n_workers or there)
    logger.info("the pass runs on %d workers of a Ray cluster", n)
    return ActorPool(ray, lambda: actor.remote(*shared), n)


def put_network(ray: Any, classifier: Classifier, *others: Any) -> list[Any]:
    """References to a network and what goes with it, in the cluster's store.

    Raises:
        CheckpointError: the network cannot be sent.
    """
    try:
        with _sending_user_code(ray, classifier):
            return [ray.put(item) for item in (replace(classifier, notes=()), *others)]
    except Exception as error:  # the network's own code may refuse to be sent in many ways
        why = f"the network cannot be sent to other processes ({summarise_error(error)})"
        raise CheckpointError(str(classifier.path), why, hint="--engine local") from error


@contextmanager
def _sending_user_code(ray: Any, classifier: Classifier) -> Iterator[None]:
    """Sends modules that the user named as files with the network: workers could not import them by name."""
    names = {kind.__module__ for module in classifier.model.modules() for kind in type(module).__mro__}
    own = [sys.modules[name] for name in sorted(names) if name.startswith(USER_CODE) and name in sys.modules]
    for module in own:
        ray.cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in own:
            ray.cloudpickle.unregister_pickle_by_value(module)


def _collect(ray: Any, pool: ActorPool, tasks: Iterator[Task]) -> Iterator[tuple[Batch, Acts]]:
    """Results in order; what the user should know of a failure is raised as it was in the worker."""
    try:
        for batch, acts, failure in pool.run(tasks):
            if failure is not None:
                name, *words = failure
                raise getattr(errors, name)(*words)
            yield batch, acts
    except ray.exceptions.RayError as error:
        why = f"a worker of the cluster failed ({summarise_error(error)})"
        raise CheckpointError(
            "--engine ray", why, hint="-v shows more; --engine local does without a cluster"
        ) from error
