"""Verification of the head: on real images, its weights turn the activations into the network's logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from salve_audit.errors import HeadError
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.forms import FORMS
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.inputs.model.head.reader import ENDINGS, HeadReader
from salve_audit.inputs.model.head.trace import HINT, Trace, trace

VERIFIED_WITHIN = 1e-4  # relative to the largest value: what two float32 passes through a network may differ by


def verify_head(classifier: Classifier, batch: Tensor) -> tuple[LinearHead, float]:
    """Verifies the head and returns its weights: on `batch` (n, c, h, w) that they turn activations into the logits.

    Where the network does something with its logits before it returns them (softmax, sigmoid), that of
    ``head(acts)`` must be its output, and ``head(acts)`` what the head's own layers return: rounded probabilities
    alone would verify little.

    Returns:
        The head, and the largest difference of ``head(acts)`` from the logits relative to the largest logit.

    Raises:
        HeadError: a layer's input is not one vector (or map) per image, or it does not make the network's output.
        CheckpointError: the forward pass fails.
    """
    model, reader, path = classifier.model, classifier.reader, str(classifier.path)
    error = measure_error(reader, model, trace(model, reader.modules, batch, path), path)
    return reader.fold(model), error


def measure_error(reader: HeadReader, model: nn.Module, traced: Trace, path: str) -> float:
    """Largest difference of ``head(acts)`` from the logits, relative to the largest logit.

    Raises:
        HeadError: acts cannot be read, or the head does not make the network's output to 1e-4.
    """
    acts = reader.read({name: calls.inputs for name, calls in traced.calls.items()}, len(traced.output), path)
    weight, bias = reader.weigh(model)
    n_outputs, returned = len(weight), tuple(traced.output.shape)[1:]
    if (n_outputs,) != returned:
        raise HeadError(
            path, f"its layer {reader.name!r} has {n_outputs} outputs, the network returns {returned}", HINT
        )
    logits = acts @ weight.T + bias
    error = relative_error(ENDINGS[reader.ending](logits), traced.output)
    if reader.ending:
        error = max(error, relative_error(logits, _average(reader, traced)))
    if not error <= VERIFIED_WITHIN:
        shape = f"{weight.shape[1]} -> {weight.shape[0]}"
        why = f"its layer {reader.name!r} ({shape}) does not make the logits: {error:.2g} apart"
        raise HeadError(path, why, hint=HINT)
    return error


def relative_error(computed: Tensor, logits: Tensor) -> float:
    """Largest difference, relative to the largest logit; infinite where shapes differ."""
    if computed.shape != logits.shape:
        return float("inf")
    scale = float(logits.abs().max()) or 1.0
    return float((computed - logits).abs().max()) / scale


def _average(reader: HeadReader, traced: Trace) -> Tensor:
    """The outputs of the head's layers, averaged over positions and over the layers."""
    form = FORMS[reader.form]
    return torch.stack([form.pool(traced.calls[name].outputs[0]) for name in reader.modules]).mean(0)
