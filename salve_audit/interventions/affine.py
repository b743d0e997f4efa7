"""The one signature of all interventions: a strength in, an affine head out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class AffineHead:
    """``logits = acts @ weight.T + bias``, float64.

    Attributes:
        weight: (k, d).
        bias: (k,).
    """

    weight: Float[np.ndarray, "k d"]
    bias: Float[np.ndarray, " k"]

    def logits(self, acts: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """Logits of the activations, (n, k)."""
        return acts @ self.weight.T + self.bias


@dataclass(frozen=True)
class Intervention:
    """One edit of one class with a single strength.

    Attributes:
        method: its name, for instance ``salve``.
        head: strength -> edited head; ``head(0.0)`` is the original head.
        max_strength: upper end of the range in which strengths are searched.
        feature: the latent it acts on, or None.
    """

    method: str
    head: Callable[[float], AffineHead]
    max_strength: float
    feature: int | None = None
