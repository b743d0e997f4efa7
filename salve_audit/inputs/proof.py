"""The head proven: on real pictures, its weights turn the activations into the network's logits."""

from __future__ import annotations

import torch
from torch import nn

from salve_audit.inputs.classifier import Classifier
from salve_audit.inputs.head import LinearHead
from salve_audit.inputs.heads.measure import measure_error
from salve_audit.inputs.heads.trace import trace


def prove_head(classifier: Classifier, batch: torch.Tensor) -> tuple[LinearHead, float]:
    """The head's weights, after showing on `batch` (n, c, h, w) that they turn activations into the logits.

    Where the network does something with its logits before it returns them (softmax, sigmoid), that of
    ``head(acts)`` must be its output, and ``head(acts)`` what the head's own layers return: rounded probabilities
    alone would prove little.

    Returns:
        The head, and the largest difference of ``head(acts)`` from the logits relative to the largest logit.

    Raises:
        HeadError: a layer's input is not one vector (or map) per picture, or it does not make the network's output.
        CheckpointError: the forward pass fails.
    """
    model, reader, path = classifier.model, classifier.reader, str(classifier.path)
    error = measure_error(reader, model, trace(model, reader.modules, batch, path), path)
    return reader.fold(model), error


def count_parameters(model: nn.Module) -> int:
    """Number of trainable and frozen parameters, buffers not counted."""
    return sum(parameter.numel() for parameter in model.parameters())
