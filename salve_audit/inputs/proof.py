"""The head proven: on real pictures, its weights turn the activations into the network's logits."""

from __future__ import annotations

import torch
from torch import nn

from salve_audit.errors import HeadError
from salve_audit.inputs.classifier import Classifier
from salve_audit.inputs.head import LinearHead
from salve_audit.inputs.heads.forms import FORMS
from salve_audit.inputs.heads.reader import ENDINGS, HeadReader
from salve_audit.inputs.heads.search import TOLERANCE, relative_error
from salve_audit.inputs.heads.trace import HINT, LayerCalls, trace


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
    seen = trace(model, reader.modules, batch, path)
    acts = reader.read({name: calls.inputs for name, calls in seen.calls.items()}, len(batch), path)
    weight, bias = reader.weigh(model)
    logits = acts @ weight.T + bias
    if logits.shape != seen.output.shape:
        n_outputs, returned = logits.shape[1], tuple(seen.output.shape)[1:]
        raise HeadError(
            path, f"its layer {reader.name!r} has {n_outputs} outputs, the network returns {returned}", HINT
        )
    error = relative_error(ENDINGS[reader.ending](logits), seen.output)
    if reader.ending:
        error = max(error, relative_error(logits, _average(reader, seen.calls)))
    if not error <= TOLERANCE:
        shape = f"{weight.shape[1]} -> {weight.shape[0]}"
        why = f"its layer {reader.name!r} ({shape}) does not make the logits: {error:.2g} apart"
        raise HeadError(path, why, hint=HINT)
    return reader.fold(model), error


def _average(reader: HeadReader, calls: dict[str, LayerCalls]) -> torch.Tensor:
    """What the head's layers return: averaged over positions, and over the layers."""
    form = FORMS[reader.form]
    outputs = [form.pool(calls[name].outputs[0]) for name in reader.modules]
    return torch.stack(outputs).mean(0)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable and frozen parameters, buffers not counted."""
    return sum(parameter.numel() for parameter in model.parameters())
