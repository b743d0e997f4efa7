"""The network as image reliance runs it: one probe for each stream, in the precisions that pay, and a clock.

This is all that the measure knows of speed. Work is given in batches of images; `FastNetwork.map` divides it among the
streams, and `Clock` says when to stop.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.activations.actors import Pool
from salve_audit.activations.precision import LEAST_GAIN, measure_gain
from salve_audit.activations.store import BF16, FP32
from salve_audit.activations.streams import copy_for_streams, fit_batch, run_streams, single_thread
from salve_audit.evidence.elsewhere import map_elsewhere
from salve_audit.evidence.parts import PartStore, remember
from salve_audit.evidence.probe import Probe, RunPrecision, soft_margin, watch_network
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.exact import exact_convolutions
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.spatial.layers import SpatialLayer

BATCH, BATCH_PIXELS = 100, 3 * 2**16  # images at once, and pixels of theirs: a backward pass keeps every layer's output
ON_GPU = 4  # times the pixels, which a processor would not be faster with

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Clock:
    """The time that the measure may take.

    Attributes:
        seconds: of wall time from the clock's start on; None: as long as it takes.
        began: on the monotonic clock.
    """

    seconds: float | None = None
    began: float = field(default_factory=time.monotonic)

    def __getstate__(self) -> tuple[float | None, float]:
        """What another machine can make use of: its clock began at another time."""
        return self.seconds, time.monotonic() - self.began

    def __setstate__(self, state: tuple[float | None, float]) -> None:
        """The clock as of this machine."""
        object.__setattr__(self, "seconds", state[0])
        object.__setattr__(self, "began", time.monotonic() - state[1])

    def is_past(self, share: float = 1.0) -> bool:
        """Whether this share of the time has passed."""
        return self.seconds is not None and time.monotonic() - self.began >= share * self.seconds


@dataclass(frozen=True)
class FastNetwork:
    """Probes of one network on a device, each used by one thread at a time.

    Attributes:
        probes: one for each stream; they share the weights.
        device: where images are moved to.
        clock: of the measure.
        parts: results of batches that an interrupted run has left; None: none are kept.
        pool: of copies of the network on a cluster, which run the batches in place of the probes; None: there is none.
    """

    probes: tuple[Probe, ...]
    device: torch.device
    clock: Clock = field(default_factory=Clock)
    parts: PartStore | None = None
    pool: Pool | None = None
    _calls: Iterator[int] = field(default_factory=itertools.count, init=False, repr=False)

    @property
    def probe(self) -> Probe:
        """The probe of the caller's own thread, while `map` does not run."""
        return self.probes[0]

    def map(self, work: Callable[[Probe, T], R], items: Iterable[T]) -> list[R]:
        """Results of ``work(probe, item)`` in the order of the items, of which a few are taken ahead."""
        if self.pool is not None:
            return map_elsewhere(self.pool, work, items, (self.parts, next(self._calls)))
        if self.parts is None:
            return list(run_streams(self.probes, work, items))
        parts, call = self.parts, next(self._calls)  # the calls of a measure come in the same order every time

        def recall_or_work(probe: Probe, numbered: tuple[int, T]) -> R:
            return remember(parts, f"{call}-{numbered[0]}", lambda: work(probe, numbered[1]))

        return list(run_streams(self.probes, recall_or_work, enumerate(items)))

    def batches(self, n: int, size: tuple[int, int]) -> list[slice]:
        """`n` images of this height and width in batches that a backward pass has memory for."""
        step = choose_batch_size(size, self.device)
        return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def choose_batch_size(size: tuple[int, int], device: torch.device) -> int:
    """Images of a batch by their height and width, at least one.

    It is chosen by memory alone: where memory is kept between batches, larger ones hardly are faster (measured:
    forward and backward pass of EfficientNet-Lite0 at 224 px, 58 ms of CPU an image one by one, 52 by four, 45 by 16).
    """
    pixels = BATCH_PIXELS * (ON_GPU if device.type != "cpu" else 1)
    return fit_batch(BATCH, pixels, size)


@contextmanager
def watch_streams(
    classifier: Classifier,
    layer: SpatialLayer,
    head: LinearHead,
    precision: RunPrecision,
    clock: Clock,
    parts: PartStore | None = None,
) -> Iterator[FastNetwork]:
    """Yield the network as probes while the block runs: copies that share their weights, the network is untouched.

    Args:
        classifier: on its device.
        layer: whose output becomes `ProbeOutput.maps`.
        head: that logits are computed with.
        precision: of passes with and without gradients.
        clock: of the measure.
        parts: see `FastNetwork`.
    """
    device = next((tensor.device for tensor in classifier.model.parameters()), torch.device("cpu"))
    copies = copy_for_streams(classifier, device)
    with exact_convolutions(), ExitStack() as stack:
        probes = tuple(stack.enter_context(watch_network(copy, layer, head, precision)) for copy in copies)
        yield FastNetwork(probes, device, clock, parts)


def choose_run_precision(
    classifier: Classifier,
    layer: SpatialLayer,
    head: LinearHead,
    images: Float[Tensor, "n c h w"],
    pass_precision: str,
) -> RunPrecision:
    """The precision of forward passes, and that of forward and backward passes, which is measured on a real batch.

    Args:
        classifier: on its device.
        layer, head: as for `watch_streams`.
        images: a batch, on the device.
        pass_precision: of the backbone pass, in which predictions agree; bf16 is not tried where it is fp32.
    """
    if pass_precision == FP32 or images.device.type != "cpu":
        return RunPrecision(pass_precision, FP32)
    few = images[: choose_batch_size((images.shape[2], images.shape[3]), images.device)]
    (copy,) = copy_for_streams(classifier, images.device, 1)

    with single_thread(), watch_network(copy, layer, head) as probe:
        gain = measure_gain(lambda: run_gradient(probe, few))
    return RunPrecision(pass_precision, BF16 if gain >= LEAST_GAIN else FP32)


def run_gradient(probe: Probe, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Gradients of the predicted class's margin in the images: one forward and one backward pass."""
    position = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = probe(position).logits
        labels: Int[Tensor, " n"] = logits.detach().argmax(1)
        (gradient,) = torch.autograd.grad(soft_margin(logits, labels).sum(), position)
    return gradient
