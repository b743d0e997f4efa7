"""The network as a function of prepared images: logits, and the activations of one spatial layer.

The search for evidence is handed this callable instead of a model, so that it knows nothing of how networks are loaded
and hooked, and is tested on functions whose evidence is known. `watch_network` makes one of a real network, from its
own forward pass with one layer and the head's inputs watched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from salve_audit.activations.store import FP32
from salve_audit.activations.streams import computing
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.inputs.model.head.trace import watch_inputs
from salve_audit.spatial.layers import SpatialLayer


@dataclass(frozen=True)
class ProbeOutput:
    """Logits and activations of one forward pass.

    Attributes:
        logits: (b, k), differentiable in the images.
        maps: (b, d, gh, gw) activations of one spatial layer, which distinguish kinds of evidence.
    """

    logits: Float[Tensor, "b k"]
    maps: Float[Tensor, "b d gh gw"]


Probe = Callable[[Float[Tensor, "b c h w"]], ProbeOutput]


def soft_margin(logits: Float[Tensor, "b k"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Margin (b,) of the class's logit over the log-sum-exp of the others.

    It is smooth, and does not saturate as a probability does.
    """
    own = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    return logits[own] - logits.masked_fill(own, -torch.inf).logsumexp(1)


def hard_margin(logits: Float[Tensor, "b k"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Margin (b,) of the class's logit over the largest other: above 0 where the image is classified as `labels`."""
    own = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    return logits[own] - logits.masked_fill(own, -torch.inf).amax(1)


@dataclass(frozen=True)
class RunPrecision:
    """Precision of the passes, fp32 or bf16: without gradients, and of forward and backward passes."""

    forward: str = FP32
    gradient: str = FP32


@contextmanager
def watch_network(
    classifier: Classifier,
    layer: SpatialLayer,
    head: LinearHead | None = None,
    precision: RunPrecision | None = None,
) -> Iterator[Probe]:
    """Yield the network as a probe while the block runs, and remove its hooks afterwards.

    Logits are those of the head the audit works on, two for a network with one output, whatever the network does
    with them before it returns them.

    Args:
        classifier: on the device of the images.
        layer: whose output becomes `ProbeOutput.maps`.
        head: that logits are computed with; None: the network's own.
        precision: of the passes; None: as the caller has set it, float32 unless in an autocast block.

    Raises:
        HeadError: the head cannot be read in a pass.
    """
    model, reader, path = classifier.model, classifier.reader, str(classifier.path)
    head = reader.fold(model) if head is None else head
    weight, bias = torch.from_numpy(head.weight), torch.from_numpy(head.bias)
    inputs: dict[str, list[Tensor]] = {}
    outputs: list[Tensor] = []

    def record(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
        outputs.append(output.detach().clone())  # what follows may change it in place

    def probe(images: Float[Tensor, "b c h w"]) -> ProbeOutput:
        inputs.clear()
        outputs.clear()
        with _computing(images, precision):
            model(images.contiguous(memory_format=torch.channels_last))
        acts = reader.read(inputs, len(images), path)
        positions = layer.layout.to_positions(outputs[0].float())
        return ProbeOutput(acts @ weight.to(acts).T + bias.to(acts), layer.layout.to_map(positions.transpose(1, 2)))

    handles = [watch_inputs(model, name, inputs) for name in reader.modules]
    handles.append(model.get_submodule(layer.name).register_forward_hook(record))
    try:
        yield probe
    finally:
        for handle in handles:
            handle.remove()


def _computing(images: Tensor, precision: RunPrecision | None) -> AbstractContextManager[None]:
    if precision is None:
        return nullcontext()
    has_gradient = images.requires_grad and torch.is_grad_enabled()
    return computing(images.device, precision.gradient if has_gradient else precision.forward)
