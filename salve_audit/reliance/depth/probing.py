"""A probe of a real network: its own forward pass, with one layer and the head's inputs watched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from salve_audit.inputs.classifier import Classifier
from salve_audit.inputs.head import LinearHead
from salve_audit.inputs.heads.trace import watch_inputs
from salve_audit.reliance.depth.network import Probe, Seen
from salve_audit.spatial.layers import SpatialLayer


@contextmanager
def watch_network(classifier: Classifier, layer: SpatialLayer, head: LinearHead | None = None) -> Iterator[Probe]:
    """The network as a function of prepared pictures, while the block runs; its hooks are taken off afterwards.

    Logits are those of the head the audit works on, two for a network with one output, whatever the network does
    with them before it returns them.

    Raises:
        HeadError: the head cannot be read in a pass.
    """
    model, reader, path = classifier.model, classifier.reader, str(classifier.path)
    head = reader.fold(model) if head is None else head
    weight, bias = torch.from_numpy(head.weight), torch.from_numpy(head.bias)
    inputs: dict[str, list[Tensor]] = {}
    outputs: list[Tensor] = []

    def keep(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
        outputs.append(output.detach().clone())  # what follows may change it in place

    def probe(images: Float[Tensor, "b c h w"]) -> Seen:
        inputs.clear()
        outputs.clear()
        model(images)
        acts = reader.read(inputs, len(images), path)
        positions = layer.layout.to_positions(outputs[0])
        return Seen(acts @ weight.to(acts).T + bias.to(acts), layer.layout.to_map(positions.transpose(1, 2)))

    handles = [watch_inputs(model, name, inputs) for name in reader.modules]
    handles.append(model.get_submodule(layer.name).register_forward_hook(keep))
    try:
        yield probe
    finally:
        for handle in handles:
            handle.remove()
