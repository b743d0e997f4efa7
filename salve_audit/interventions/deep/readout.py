"""The readout of the head's input from the stream: pooling and, in most networks but ResNets, a LayerNorm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from salve_audit.inputs.model.head.verification import VERIFIED_WITHIN
from salve_audit.interventions.deep.projection import Projection, make_projection

POOLINGS = ("mean", "first", "rest")


@dataclass(frozen=True)
class Readout:
    """The map from the last block's output to the head's input.

    Attributes:
        axis: of the channels in the block's output: 1 or -1.
        pooling: ``mean`` of all positions, the ``first`` token, or the mean of the ``rest`` without `n_prefix` tokens.
        norm: dotted path of the LayerNorm, or None.
        norm_first: it comes before the pooling.
        n_prefix: tokens in front of those of places.
    """

    axis: int
    pooling: str
    norm: str | None = None
    norm_first: bool = False
    n_prefix: int = 0

    def read(self, model: nn.Module, output: Float[Tensor, "b ..."]) -> Float[Tensor, "b c"]:
        """The head's inputs."""
        positions = output.movedim(self.axis, -1).flatten(1, -2)  # (b, p, c)
        if self.norm is not None and self.norm_first:
            positions = _normalise(model, self.norm, positions)
        pooled = _pool(positions, self.pooling, self.n_prefix)
        return _normalise(model, self.norm, pooled) if self.norm is not None and not self.norm_first else pooled

    def pull_back(
        self, model: nn.Module, direction: Float[np.ndarray, " c"], encoder: Float[np.ndarray, " c"], feature: int
    ) -> Projection:
        """The latent's projection in the stream.

        Raises:
            DeepEditError: its encoder and decoder directions do not belong together.
        """
        d, e = (np.asarray(vector, dtype=np.float64) for vector in (direction, encoder))
        if self.norm is None:
            return make_projection(d, e, feature)
        gain = getattr(model.get_submodule(self.norm), "weight", None)
        gamma = np.ones_like(d) if gain is None else gain.detach().double().cpu().numpy()
        scaled = np.divide(d, gamma, out=np.zeros_like(d), where=gamma != 0)
        make_projection(d, e, feature)  # refused there as well: centring must not turn a bad latent into a good one
        return make_projection(scaled - scaled.mean(), gamma * e - (gamma * e).mean(), feature)

    def offset(self, model: nn.Module) -> Float[np.ndarray, " c"] | float:
        """The part of the head's input that the stream has no say in: the LayerNorm's bias."""
        bias = None if self.norm is None else getattr(model.get_submodule(self.norm), "bias", None)
        return 0.0 if bias is None else np.asarray(bias.detach().double().cpu().numpy())

    def push_forward(self, model: nn.Module, projection: Projection, encoder: Float[np.ndarray, " c"]) -> Projection:
        """The projection of a latent with this encoder row as it is in the head's input, but for the norm's σ."""
        gain = None if self.norm is None else getattr(model.get_submodule(self.norm), "weight", None)
        gamma = 1.0 if gain is None else gain.detach().double().cpu().numpy()
        direction = gamma * projection.direction
        e = np.asarray(encoder, dtype=np.float64)
        return Projection(direction, e / float(e @ direction))


def find_readout(
    model: nn.Module,
    outputs: Sequence[Float[Tensor, "b ..."]],
    acts: Float[Tensor, "b c"],
    norms: Sequence[str],
    axis: int,
) -> Readout | None:
    """The readout that turns the last block's output into the head's inputs; None: none of those known does."""
    (output,) = outputs
    if output.ndim < 3 or output.shape[axis] != acts.shape[1]:
        return None
    for candidate in _candidates(model, norms, axis):
        read = candidate.read(model, output)
        if read.shape == acts.shape and bool((read - acts).abs().max() <= VERIFIED_WITHIN * acts.abs().max()):
            return candidate
    return None


def _candidates(model: nn.Module, norms: Sequence[str], axis: int) -> Iterator[Readout]:
    n_prefix = getattr(model, "num_prefix_tokens", 0)
    for pooling in POOLINGS[: 1 if axis == 1 else 3]:
        for norm in norms:
            for first in (True, False):
                yield Readout(axis, pooling, norm, first, n_prefix)
        yield Readout(axis, pooling, None, False, n_prefix)


def _pool(positions: Float[Tensor, "b p c"], pooling: str, n_prefix: int) -> Float[Tensor, "b c"]:
    if pooling == "first":
        return positions[:, 0]
    return positions[:, n_prefix if pooling == "rest" else 0 :].mean(1)


def _normalise(model: nn.Module, name: str, values: Float[Tensor, "... c"]) -> Float[Tensor, "... c"]:
    norm = model.get_submodule(name)
    assert isinstance(norm, nn.LayerNorm), f"{name} is a {type(norm).__name__}"
    return torch.nn.functional.layer_norm(values, values.shape[-1:], norm.weight, norm.bias, norm.eps)
