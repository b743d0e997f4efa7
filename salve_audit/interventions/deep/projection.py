"""The oblique projection ``I − t d eᵀ / (eᵀd)`` in the space of a residual stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from salve_audit.errors import DeepEditError

LEAST_COSINE = 0.05  # of decoder and encoder direction; below it the projection would mostly amplify noise


@dataclass(frozen=True, eq=False)
class Projection:
    """Takes the component that `encoder` reads out along `direction`, float64.

    Attributes:
        direction: (c,) d.
        encoder: (c,) e, scaled so that eᵀd = 1.
    """

    direction: Float[np.ndarray, " c"]
    encoder: Float[np.ndarray, " c"]

    def apply(self, values: Float[Tensor, "... c"], strength: float) -> Float[Tensor, "... c"]:
        """``P(t) v`` for vectors along the last axis, in their own precision and on their device."""
        direction, encoder = (
            values.new_tensor(vector.tolist(), dtype=values.dtype) for vector in (self.direction, self.encoder)
        )
        return values - strength * (values @ encoder)[..., None] * direction


def make_projection(direction: Float[np.ndarray, " c"], encoder: Float[np.ndarray, " c"], feature: int) -> Projection:
    """The projection of a latent; `feature` is its number, for the message.

    Raises:
        DeepEditError: encoder and decoder direction have next to nothing in common, or point apart.
    """
    d, e = (np.asarray(vector, dtype=np.float64) for vector in (direction, encoder))
    reach, size = float(e @ d), float(np.linalg.norm(e) * np.linalg.norm(d))
    if reach <= LEAST_COSINE * size:
        cosine = f"cosine {reach / size:.2g}" if size > 0 else "one of them is zero"
        why = f"its encoder and decoder directions do not belong together ({cosine}), so no projection removes it"
        raise DeepEditError(f"feature {feature}", why, hint="edit the head instead, or another feature")
    return Projection(d, e / reach)
