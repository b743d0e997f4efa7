"""Taking something out of a layer's output at every position: what latents, or a projection, have in common."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Removal(Protocol):
    """What a concept writes into the layer: strength t leaves ``positions - t * part(positions)``."""

    def part(self, positions: Float[Tensor, "b p d"]) -> Float[Tensor, "b p d"]:
        """What strength 1 takes out of b outputs of the layer with p positions of d channels."""
        ...
