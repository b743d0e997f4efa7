"""Batches of image reliance on copies of the network in other processes; what is kept of them is kept here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import torch

from salve_audit.activations.actors import Pool
from salve_audit.activations.ray_actors import fetch
from salve_audit.activations.streams import copy_for_streams
from salve_audit.evidence.parts import PartStore, recall, remember
from salve_audit.evidence.probe import Probe, RunPrecision, watch_network
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.exact import exact_convolutions
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.spatial.layers import SpatialLayer

T = TypeVar("T")
R = TypeVar("R")


class ProbeWorker:
    """A process with a probe of its own, on one thread, as a stream of one process is (`fast_network`).

    The network is on the device that it came from: what was sent from a GPU arrives on the GPU that the process has.
    """

    def __init__(self, classifier: Classifier, layer: SpatialLayer, head: LinearHead, precision: RunPrecision) -> None:
        torch.set_num_threads(1)
        device = next((tensor.device for tensor in classifier.model.parameters()), torch.device("cpu"))
        (copy,) = copy_for_streams(classifier, device, 1)
        self.stack = ExitStack()
        self.stack.enter_context(exact_convolutions())
        self.probe = self.stack.enter_context(watch_network(copy, layer, head, precision))
        self.call = -1
        self.work: Any = None

    def run(self, call: int, work: Any, item: Any) -> Any:
        """A batch; the work of a call is fetched with the first of its batches."""
        if call != self.call:
            self.call, self.work = call, fetch(work)
        return self.work(self.probe, item)


def map_elsewhere(
    pool: Pool, work: Callable[[Probe, T], R], items: Iterable[T], kept: tuple[PartStore | None, int]
) -> list[R]:
    """Results of ``work(probe, item)`` in the order of the items.

    Args:
        pool: of `ProbeWorker`.
        work: may be sent.
        items: may be sent.
        kept: the results of batches that an interrupted run has left, or None, and the number of this call.
    """
    parts, call = kept
    results, waiting, shared = dict[int, R](), deque[int](), pool.share(work)

    def send() -> Iterator[tuple[int, Any, T]]:
        for number, item in enumerate(items):
            done = None if parts is None else recall(parts, f"{call}-{number}")
            if done is not None:
                results[number] = done
                continue
            waiting.append(number)
            yield call, shared, item

    for result in pool.run(send()):
        number = waiting.popleft()
        results[number] = result
        if parts is not None:
            remember(parts, f"{call}-{number}", lambda result=result: result)  # type: ignore[misc]
    return [results[number] for number in range(len(results))]
