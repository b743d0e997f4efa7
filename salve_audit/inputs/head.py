"""The classifier's last linear layer: what every threshold and edit is computed on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class LinearHead:
    """Final linear layer of k classes over d activations: ``logits = acts @ weight.T + bias``.

    Attributes:
        weight: (k, d) float32, contiguous.
        bias: (k,) float32; zeros where the layer has none.
        module: dotted path of the layer in the model, for instance ``fc``.
    """

    weight: Float[np.ndarray, "k d"]
    bias: Float[np.ndarray, " k"]
    module: str

    @property
    def n_classes(self) -> int:
        return int(self.weight.shape[0])

    @property
    def d(self) -> int:
        return int(self.weight.shape[1])
