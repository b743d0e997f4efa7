"""Such heat maps by the `grad-cam` library (pip install grad-cam), and by gradients that were not chosen."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.trace import watch_inputs
from salve_audit.saliency.gradients import Directions
from salve_audit.spatial.cut import CutPass
from salve_audit.spatial.layers import SpatialLayer
from salve_audit.spatial.layout import GridLayout


class ReadOut(nn.Module):
    """A network that returns directions of its head's inputs, so that the library can explain latents."""

    def __init__(self, classifier: Classifier, vectors: Float[Tensor, "l d"]) -> None:
        super().__init__()
        self.model, self._reader, self._vectors = classifier.model, classifier.reader, vectors
        self._seen: dict[str, list[Tensor]] = {}
        self.hooks = [watch_inputs(self.model, name, self._seen) for name in self._reader.modules]

    def forward(self, images: Tensor) -> Float[Tensor, "n l"]:
        self._seen.clear()
        self.model(images)
        return self._reader.read(self._seen, len(images), "model") @ self._vectors.T


class Library:
    """Grad-CAM by the library: one forward and one backward pass for every direction."""

    def __init__(self, classifier: Classifier, layer: SpatialLayer, vectors: Float[Tensor, "l d"]) -> None:
        self._readout = ReadOut(classifier, vectors)
        module = classifier.model.get_submodule(layer.name)
        self._cam: Any = GradCAM(self._readout, [module], reshape_transform=_reshaping(layer.layout))

    def __call__(self, images: Tensor, index: int) -> Float[Tensor, "n y x"]:
        targets = [ClassifierOutputTarget(index)] * len(images)
        return torch.from_numpy(self._cam(images.clone().requires_grad_(), targets=targets))

    def close(self) -> None:
        self._cam.activations_and_grads.release()
        for hook in self._readout.hooks:
            hook.remove()


def _reshaping(layout: GridLayout) -> Any:
    if layout.kind == "channels-first":
        return None
    return lambda output: layout.to_map(layout.to_positions(output).transpose(1, 2))


def gradient_times_activation(directions: Directions, passed: CutPass) -> Float[Tensor, "b l h w"]:
    """HiResCAM's product, position by position, without its ReLU."""
    maps = [(block.gradients * block.positions).sum(3).abs() for block in directions.iterate(passed)]
    return directions.layout.to_map(torch.cat(maps, dim=1).transpose(0, 1))


def product_of_norms(directions: Directions, passed: CutPass) -> Float[Tensor, "b l h w"]:
    """NormGrad: norm of the gradient times norm of the activation."""
    maps = [block.gradients.norm(dim=3) * block.positions.norm(dim=2) for block in directions.iterate(passed)]
    return directions.layout.to_map(torch.cat(maps, dim=1).transpose(0, 1))
