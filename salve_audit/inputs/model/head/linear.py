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


def fold_one_output(head: LinearHead) -> LinearHead:
    """A single output w·a + b, whose sign decides, as a head of two classes: rows −w/2 and w/2, biases −b/2 and b/2.

    The two logits differ by w·a + b, so predictions and probabilities (sigmoid) are the network's own, and class 1
    flips where its logit changes sign. Against the rows 0 and w, every threshold of class 1 is the same; but there
    class 0 would have the evidence z_0 = 0 for every sample, and neither an analytical nor a numerical threshold.
    """
    assert head.n_classes == 1, f"expected one output, got {head.n_classes}"
    signs = np.array([-0.5, 0.5], np.float32)
    return LinearHead(signs[:, None] * head.weight, signs * head.bias, head.module)
