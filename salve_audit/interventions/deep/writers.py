"""Layers that write into the residual stream, as affine maps, and their edited numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from salve_audit.interventions.deep.projection import Projection

Values: TypeAlias = Mapping[str, np.ndarray]  # by the parameter's dotted path
UNWRITABLE = 1e-7  # scale of a channel, relative to the largest: its weights would have to be as much larger


@dataclass(frozen=True)
class Writer:
    """An affine layer whose output is added to the stream: ``out = scale ⊙ (W h) + constant``.

    Attributes:
        layer: dotted path of the convolution or linear layer.
        norm: of the BatchNorm behind it, or None.
        gate: of the parameter behind it that multiplies every channel (LayerScale), or None.
        axis: of the channels in what it returns: 1 or -1.
    """

    layer: str
    norm: str | None = None
    gate: str | None = None
    axis: int = -1

    @property
    def watched(self) -> str:
        """The module whose output, times `after`, is added to the stream."""
        return self.norm or self.layer

    def after(self, model: nn.Module) -> Float[Tensor, " c"] | None:
        """(c,) factors by which the watched module's output is multiplied; None: it is not."""
        return None if self.gate is None else find_tensor(model, self.gate).detach()

    @property
    def constant_name(self) -> str:
        """The parameter that carries the constant."""
        return f"{self.norm or self.layer}.bias"

    def measure(self, model: nn.Module, values: Values | None = None) -> AffineMap:
        """The map's numbers in float64; `values` stand in for the model's parameters of these names."""
        weight, bias = (_read(model, f"{self.layer}.{name}", values) for name in ("weight", "bias"))
        assert weight is not None, f"{self.layer} has no weight"
        bias = np.zeros(len(weight)) if bias is None else bias
        if self.norm is None:
            gain = None if self.gate is None else _read(model, self.gate, values)
            scale = np.ones(len(weight)) if gain is None else gain
            return AffineMap(weight, scale, scale * bias)
        norm: Any = model.get_submodule(self.norm)
        gain, shift = (_read(model, f"{self.norm}.{name}", values) for name in ("weight", "bias"))
        assert gain is not None, f"{self.norm} has no weight"
        assert shift is not None, f"{self.norm} has no bias"
        scale = gain / np.sqrt(_as_float64(norm.running_var) + norm.eps)
        return AffineMap(weight, scale, shift + scale * (bias - _as_float64(norm.running_mean)))

    def edit(
        self, model: nn.Module, projection: Projection, strength: float, values: Values | None = None
    ) -> dict[str, np.ndarray]:
        """New values, float64, of the parameters that change, by name: the weight, and what carries the constant.

        Args:
            model: stays as it is.
            projection: in the space of the stream.
            strength: t.
            values: left by edits before this one, in place of the model's own.
        """
        own = self.measure(model, values)
        direction = np.where(own.writable, projection.direction, 0.0)
        weight = own.weight.reshape(len(own.weight), -1)  # (c, fan)
        read = (projection.encoder * own.scale) @ weight  # (fan,)
        unscaled = np.divide(direction, own.scale, out=np.zeros_like(direction), where=own.writable)
        changed = weight - strength * np.outer(unscaled, read)
        edited = {f"{self.layer}.weight": changed.reshape(own.weight.shape)}
        held = _read(model, self.constant_name, values)
        shift = -strength * float(projection.encoder @ own.constant)
        if held is not None and shift:
            edited[self.constant_name] = held + shift * (direction if self.norm else unscaled)
        return edited

    def hook(self, model: nn.Module, projection: Projection, strength: float) -> Any:
        """Applies the edit by a forward hook on the network as it is; the handle removes it.

        It projects what the layer (with its BatchNorm) returns, and so knows nothing of weights, folding and biases.
        """
        own = self.measure(model)
        direction = np.where(own.writable, projection.direction, 0.0)
        gate = np.ones_like(direction) if self.gate is None else own.scale
        outer = Projection(
            np.divide(direction, gate, out=np.zeros_like(gate), where=gate != 0), projection.encoder * gate
        )

        def project(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            if self.axis == -1:
                return outer.apply(output, strength)
            return outer.apply(output.movedim(self.axis, -1), strength).movedim(-1, self.axis)

        return model.get_submodule(self.watched).register_forward_hook(project)


@dataclass(frozen=True, eq=False)
class AffineMap:
    """``out = scale ⊙ (weight h) + constant``: weight (c, ...), scale (c,), constant (c,)."""

    weight: np.ndarray
    scale: Float[np.ndarray, " c"]
    constant: Float[np.ndarray, " c"]

    @property
    def writable(self) -> Bool[np.ndarray, " c"]:
        """Channels that the weight reaches."""
        size = np.abs(self.scale)
        return np.asarray(size > UNWRITABLE * size.max(initial=0.0))


def find_tensor(model: nn.Module, name: str) -> Tensor:
    """The parameter or buffer of that dotted path."""
    value = _look_up(model, name)
    assert value is not None, f"there is no {name}"
    return value


def _look_up(model: nn.Module, name: str) -> Tensor | None:
    module, _, own = name.rpartition(".")
    value: Tensor | None = getattr(model.get_submodule(module), own)
    return value


def set_values(model: nn.Module, values: Values) -> None:
    """Writes the values into the model's parameters, in their own precision."""
    for name, value in values.items():
        find_tensor(model, name).data.copy_(torch.from_numpy(np.ascontiguousarray(value)))


def _read(model: nn.Module, name: str, values: Values | None) -> np.ndarray | None:
    """One of `values`, else the model's own; None: it has none."""
    if values is not None and name in values:
        return values[name]
    tensor = _look_up(model, name)
    return None if tensor is None else _as_float64(tensor)


def _as_float64(tensor: Tensor) -> np.ndarray:
    values: np.ndarray = tensor.detach().double().cpu().numpy()
    return values
