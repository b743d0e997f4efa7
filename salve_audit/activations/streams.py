"""Streams: copies of a network that share its weights, each run by a thread of its own on batches of its own.

On a CPU one thread per core with a whole batch is faster than one batch with its layers divided over the cores: there
is nothing to wait for within a layer, images are decoded while other streams compute, and a core that other processes
keep busy slows its own stream only, while divided layers wait for it at every one of them (measured with both cores
of two in use by others: EfficientNet-Lite0 at 224 px, 29 ms an image with one thread, 113 ms with two in one batch).
"""

from __future__ import annotations

import copy
import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import Generic, TypeVar

import torch

from salve_audit.activations.room import fit_batches
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.machine import available_memory

MOST_STREAMS = 8  # each holds the layers' outputs of a batch
BATCH, BATCH_PIXELS = 128, 2**19  # images of a batch, and their pixels: a stream's layers fit into 300 MB
BATCH_ON_GPU = 128

H = TypeVar("H")
T = TypeVar("T")
R = TypeVar("R")


def count_streams(device: torch.device) -> int:
    """One per thread that torch may use (``OMP_NUM_THREADS``, else one per core), at most 8; one for a GPU."""
    return min(torch.get_num_threads(), MOST_STREAMS) if device.type == "cpu" else 1


def choose_batch_size(batch_size: int | None, size: tuple[int, int], device: torch.device) -> int:
    """Images of a batch: as asked for, else by their pixels on a CPU, where larger ones are not faster."""
    if batch_size is not None:
        return batch_size
    if device.type != "cpu":
        return BATCH_ON_GPU
    return fit_batch(BATCH, BATCH_PIXELS, size)


def fit_batch(most: int, most_pixels: int, size: tuple[int, int]) -> int:
    """Images of this height and width that have so many pixels together, at most `most`, at least one."""
    return max(1, min(most, most_pixels // (size[0] * size[1])))


def copy_for_streams(
    classifier: Classifier, device: torch.device, n_streams: int | None = None
) -> tuple[Classifier, ...]:
    """A copy on the device for each stream; weights are copied once, in the layout that is faster to convolve.

    The classifier is left untouched. Without a number there are as many as `count_streams` says and memory allows.
    """
    n_streams = _count_fitting(device) if n_streams is None else n_streams
    first = copy.deepcopy(classifier.model).to(device)
    first = first.to(memory_format=torch.channels_last)  # 4-D weights only
    models = [first]
    for _ in range(n_streams - 1):
        shared = {id(tensor): tensor for tensor in itertools.chain(first.parameters(), first.buffers())}
        models.append(copy.deepcopy(first, shared))
    return tuple(replace(classifier, model=model) for model in models)


def _count_fitting(device: torch.device) -> int:
    """Streams that memory has a batch for each: how many there are changes last digits at most."""
    if device.type != "cpu":
        return count_streams(device)
    return fit_batches(1, count_streams(device), BATCH_PIXELS, available_memory())[1]


@contextmanager
def computing(device: torch.device, precision: str) -> Iterator[None]:
    """Convolutions and products in `precision`, fp32 or bf16, in the thread that enters."""
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        yield


@contextmanager
def single_thread() -> Iterator[None]:
    """Lets torch use the caller's thread alone while the block runs, so that the thread's own time is all there is."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_streams(handles: Sequence[H], work: Callable[[H, T], R], items: Iterable[T]) -> Iterator[R]:
    """Results of ``work(handle, item)`` in the order of the items, each handle used by one thread at a time.

    With one handle everything runs in the caller's thread. Items are taken a few ahead of the results. An error of
    the work is raised where its result would be, and ends the streams.
    """
    if len(handles) == 1:
        yield from (work(handles[0], item) for item in items)
        return
    before = torch.get_num_threads()
    streams = _Streams(handles, work, n_threads=max(1, before // len(handles)))
    try:
        yield from streams.run(items)
    except Exception:
        streams.stop()
        streams.join()
        raise
    finally:
        streams.stop()  # all that is done when the caller is interrupted
        torch.set_num_threads(before)
    streams.join()


class _Streams(Generic[H, T, R]):
    """Daemon threads, so that an interrupted pass does not wait for a network that never returns."""

    def __init__(self, handles: Sequence[H], work: Callable[[H, T], R], n_threads: int) -> None:
        self._tasks: queue.SimpleQueue[tuple[T, Future[R]] | None] = queue.SimpleQueue()
        self._pending: deque[Future[R]] = deque()
        self._threads = [
            threading.Thread(target=self._serve, args=(handle, work, n_threads), daemon=True) for handle in handles
        ]
        for thread in self._threads:
            thread.start()

    def run(self, items: Iterable[T]) -> Iterator[R]:
        """The results in order, at most two items ahead for each stream."""
        for item in items:
            future: Future[R] = Future()
            self._pending.append(future)
            self._tasks.put((item, future))
            if len(self._pending) >= 2 * len(self._threads):
                yield self._pending.popleft().result()
        while self._pending:
            yield self._pending.popleft().result()

    def stop(self) -> None:
        """Cancels what has not begun; the threads end after what they are at."""
        for future in self._pending:
            future.cancel()
        for _ in self._threads:
            self._tasks.put(None)

    def join(self) -> None:
        """Waits for the threads."""
        for thread in self._threads:
            thread.join()

    def _serve(self, handle: H, work: Callable[[H, T], R], n_threads: int) -> None:
        torch.set_num_threads(n_threads)  # of this thread, and of those that start later
        while (task := self._tasks.get()) is not None:
            item, future = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = work(handle, item)
            except BaseException as error:  # raised again where the result is waited for
                future.set_exception(error)
            else:
                future.set_result(result)
