"""An edited network run: only the blocks from the first edited one on, by the input that they had before."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from salve_audit.activations.work import count_work
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.trace import watch_inputs
from salve_audit.interventions.deep.projection import Projection
from salve_audit.interventions.deep.stream import ResidualStream, Scope
from salve_audit.interventions.deep.writers import find_tensor, set_values

BATCH_ROWS = 64
Edits = Sequence[tuple[Projection, float]]  # projections with their strengths, in the order in which they are made


def edit_values(model: nn.Module, scope: Scope, edits: Edits) -> dict[str, np.ndarray]:
    """New values, float64, of all parameters that the edits change, by name; the network stays as it is."""
    values: dict[str, np.ndarray] = {}
    for projection, strength in edits:
        for writer in scope.writers:
            values.update(writer.edit(model, projection, strength, values))
    return values


@contextmanager
def edited(model: nn.Module, values: dict[str, np.ndarray]) -> Iterator[nn.Module]:
    """The network with these values, as long as the block runs."""
    before = {name: find_tensor(model, name).detach().clone() for name in values}
    try:
        set_values(model, values)
        yield model
    finally:
        for name, tensor in before.items():
            find_tensor(model, name).data.copy_(tensor)


@contextmanager
def hooked(model: nn.Module, scope: Scope, edits: Edits) -> Iterator[nn.Module]:
    """The network with its own weights, every writer's output projected by hooks, as long as the block runs."""
    with ExitStack() as stack:
        for projection, strength in edits:
            for writer in scope.writers:
                stack.callback(writer.hook(model, projection, strength).remove)
        yield model


class DeepNetwork:
    """A private copy of a network with its residual stream, on a device.

    Attributes:
        model: the copy.
        stream: of it.
    """

    def __init__(self, classifier: Classifier, stream: ResidualStream, device: torch.device) -> None:
        self.model = copy.deepcopy(classifier.model).eval().requires_grad_(False).to(device)
        self.stream, self.device = stream, device

    def enter(self, scopes: Sequence[Scope], images: Float[Tensor, "n ..."]) -> list[Tensor]:
        """Inputs of the first block of every scope, by one pass of the whole network."""
        inputs: dict[str, list[Tensor]] = {}
        handles = [watch_inputs(self.model, name, inputs) for name in {scope.blocks[0] for scope in scopes}]
        incoming: list[list[Tensor]] = [[] for _ in scopes]
        try:
            with torch.inference_mode():
                for batch in torch.split(images, BATCH_ROWS):
                    inputs.clear()
                    self.model(batch.to(self.device))
                    for batches, scope in zip(incoming, scopes, strict=True):
                        batches.append(inputs[scope.blocks[0]][0].clone())
        finally:
            for handle in handles:
                handle.remove()
        return [torch.cat(batches) for batches in incoming]

    def run(self, scope: Scope, incoming: Float[Tensor, "n ..."]) -> Float[np.ndarray, "n d"]:
        """The head's inputs, float64: the scope's blocks and the readout run on what comes into them."""
        blocks = [self.model.get_submodule(name) for name in scope.blocks]
        parts = []
        with torch.inference_mode():
            for batch in torch.split(incoming, BATCH_ROWS):
                values = batch.clone()  # blocks may work in place
                for block in blocks:
                    values = block(values)
                parts.append(self.stream.readout.read(self.model, values).double().cpu())
        return torch.cat(parts).numpy()

    def run_edited(self, scope: Scope, incoming: Tensor, edits: Edits) -> np.ndarray:
        """The head's inputs, float64, as `run` gives them, with the edits in place."""
        with edited(self.model, edit_values(self.model, scope, edits)):
            return self.run(scope, incoming)

    def count_work(self, scope: Scope, incoming: Float[Tensor, "n ..."]) -> float:
        """Multiply-adds per image of one run, those of convolutions and linear layers."""
        layers = [module for name in scope.blocks for module in self.model.get_submodule(name).modules()]
        return count_work(layers, lambda: self.run(scope, incoming[:1]))
