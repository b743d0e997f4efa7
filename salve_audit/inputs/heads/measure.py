"""How far the folded head is from what the network returns."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from salve_audit.errors import HeadError
from salve_audit.inputs.heads.forms import FORMS
from salve_audit.inputs.heads.reader import ENDINGS, HeadReader
from salve_audit.inputs.heads.trace import HINT, Trace

TOLERANCE = 1e-4  # relative to the largest logit


def measure_error(reader: HeadReader, model: nn.Module, seen: Trace, path: str) -> float:
    """Largest difference of ``head(acts)`` from the logits, relative to the largest logit.

    Raises:
        HeadError: acts cannot be read, or the head does not make the network's output to 1e-4.
    """
    acts = reader.read({name: calls.inputs for name, calls in seen.calls.items()}, len(seen.output), path)
    weight, bias = reader.weigh(model)
    n_outputs, returned = len(weight), tuple(seen.output.shape)[1:]
    if (n_outputs,) != returned:
        raise HeadError(
            path, f"its layer {reader.name!r} has {n_outputs} outputs, the network returns {returned}", HINT
        )
    logits = acts @ weight.T + bias
    error = relative_error(ENDINGS[reader.ending](logits), seen.output)
    if reader.ending:
        error = max(error, relative_error(logits, _average(reader, seen)))
    if not error <= TOLERANCE:
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


def _average(reader: HeadReader, seen: Trace) -> Tensor:
    """What the head's layers return: averaged over positions, and over the layers."""
    form = FORMS[reader.form]
    return torch.stack([form.pool(seen.calls[name].outputs[0]) for name in reader.modules]).mean(0)
