"""The forms of a final layer: the modules that have each form, their activations and their weights.

Each form turns a layer into ``logits = acts @ weight.T + bias`` exactly:

- ``linear``: acts are the layer's inputs. Where it is applied at every position and the logits are averaged over the
  positions, acts are the averaged inputs, by linearity: ``mean_p (W x_p + b) = W (mean_p x_p) + b``.
- ``convolution``: a 1x1 convolution is that linear layer at every pixel, before or after average pooling.
- ``cosine``: ``logits = s · x/‖x‖ · w_k/‖w_k‖ + b_k``; acts are ``x/‖x‖``, weights ``s · w_k/‖w_k‖``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Form(ABC):
    """One form of final layer; stateless."""

    name: str

    @abstractmethod
    def accepts(self, layer: nn.Module) -> bool:
        """True for a layer that has what this form needs."""

    @abstractmethod
    def read(self, inputs: Tensor) -> Float[Tensor, "n d"] | None:
        """The layer's inputs (n, ...) as one vector per image, float32; None where they have another shape."""

    def pool(self, outputs: Tensor) -> Tensor:
        """The layer's outputs (n, ...) as (n, k) float32: averaged over the positions."""
        return outputs.float()

    @abstractmethod
    def count_rows(self, layer: nn.Module) -> int:
        """Number of the layer's outputs, by shapes alone."""

    @abstractmethod
    def weigh(self, layer: nn.Module) -> Float[Tensor, "k d"]:
        """The layer's weights in float32, before any scale."""

    def offset(self, layer: nn.Module, k: int) -> Float[Tensor, " k"]:
        """The layer's bias; zeros where it has none."""
        bias = getattr(layer, "bias", None)
        if not isinstance(bias, Tensor) or bias.shape != (k,):
            return torch.zeros(k)
        return bias.detach().float().cpu()


class Linear(Form):
    name = "linear"

    def accepts(self, layer: nn.Module) -> bool:
        return isinstance(layer, nn.Linear)

    def read(self, inputs: Tensor) -> Float[Tensor, "n d"] | None:
        return self.pool(inputs) if inputs.ndim > 1 else None

    def pool(self, outputs: Tensor) -> Tensor:
        return outputs.float().flatten(1, -2).mean(1) if outputs.ndim > 2 else outputs.float()

    def count_rows(self, layer: nn.Module) -> int:
        assert isinstance(layer, nn.Linear), f"not a linear layer: {type(layer).__name__}"
        return layer.out_features

    def weigh(self, layer: nn.Module) -> Float[Tensor, "k d"]:
        assert isinstance(layer, nn.Linear), f"not a linear layer: {type(layer).__name__}"
        return layer.weight.detach().float().cpu()


class Convolution(Form):
    name = "convolution"

    def accepts(self, layer: nn.Module) -> bool:
        if not isinstance(layer, CONVOLUTIONS) or layer.groups != 1:
            return False
        sides = (*layer.kernel_size, *layer.stride)
        return all(side == 1 for side in sides) and layer.padding in ("same", "valid", (0,) * len(layer.kernel_size))

    def read(self, inputs: Tensor) -> Float[Tensor, "n d"] | None:
        return self.pool(inputs) if inputs.ndim > 2 else None

    def pool(self, outputs: Tensor) -> Tensor:
        return outputs.float().flatten(2).mean(2)

    def count_rows(self, layer: nn.Module) -> int:
        assert isinstance(layer, CONVOLUTIONS), f"not a convolution: {type(layer).__name__}"
        return layer.out_channels

    def weigh(self, layer: nn.Module) -> Float[Tensor, "k d"]:
        assert isinstance(layer, CONVOLUTIONS), f"not a convolution: {type(layer).__name__}"
        return layer.weight.detach().float().cpu().flatten(1)


class Cosine(Form):
    name = "cosine"

    def accepts(self, layer: nn.Module) -> bool:
        return len(_matrices(layer)) == 1

    def read(self, inputs: Tensor) -> Float[Tensor, "n d"] | None:
        return F.normalize(inputs.float(), dim=1) if inputs.ndim == 2 else None

    def count_rows(self, layer: nn.Module) -> int:
        (matrix,) = _matrices(layer)
        return len(matrix)

    def weigh(self, layer: nn.Module) -> Float[Tensor, "k d"]:
        (matrix,) = _matrices(layer)
        return F.normalize(matrix.detach().float().cpu(), dim=1)


class CosineColumns(Cosine):
    """Cosine head whose layer keeps its weights as (d, k), one column per class."""

    name = "cosine, one column per class"

    def count_rows(self, layer: nn.Module) -> int:
        (matrix,) = _matrices(layer)
        return int(matrix.shape[1])

    def weigh(self, layer: nn.Module) -> Float[Tensor, "k d"]:
        (matrix,) = _matrices(layer)
        return F.normalize(matrix.detach().float().cpu().T, dim=1)


def _matrices(layer: nn.Module) -> list[Tensor]:
    """The layer's own parameters with two axes, those of its parts left out."""
    return [parameter for parameter in layer.parameters(recurse=False) if parameter.ndim == 2]


FORMS: Mapping[str, Form] = {form.name: form for form in (Linear(), Convolution(), Cosine(), CosineColumns())}
