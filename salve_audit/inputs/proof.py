"""The final linear layer: found in any network, then proven to produce the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from salve_audit.errors import CheckpointError, HeadError
from salve_audit.inputs.classifier import Classifier
from salve_audit.inputs.head import LinearHead
from salve_audit.inputs.reasons import nearest_names, summarise_error

TOLERANCE = 1e-4  # relative to the largest logit
HINT = "name the final linear layer with --head MODULE; the network must return its output unchanged"


@dataclass(frozen=True)
class LayerCalls:
    """What one linear layer saw in one forward pass: its inputs and outputs, call by call."""

    inputs: list[torch.Tensor]
    outputs: list[torch.Tensor]


def find_head(model: nn.Module, input_size: tuple[int, ...], path: str = "model") -> str:
    """Dotted path of the final linear layer.

    timm networks say it; a network with a single linear layer leaves no choice; otherwise a random batch is
    traced, and the last linear layer whose output is the network's output is taken. `prove_head` proves it.

    Raises:
        HeadError: there is no such layer; names what the network ends with.
        CheckpointError: the network cannot run on a picture of that size.
    """
    names: dict[int, str] = {id(m): name for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    ask: Any = getattr(model, "get_classifier", None)
    told = ask() if callable(ask) else None
    if id(told) in names:
        return names[id(told)]
    if len(names) == 1:
        return next(iter(names.values()))
    if not names:
        raise HeadError(path, f"has no linear layer, it ends with {_name_last(model)}", hint=HINT)
    batch = torch.randn(2, *input_size, generator=torch.Generator().manual_seed(0))
    calls, logits = _trace(model, list(names.values()), batch, path)
    for name in reversed(list(calls)):
        if any(_relative_error(output, logits) <= TOLERANCE for output in calls[name].outputs):
            return name
    last = next(reversed(calls), "none")
    raise HeadError(path, f"no linear layer's output is the network's output; the last one run: {last!r}", hint=HINT)


def check_head(model: nn.Module, head: str, path: str = "model") -> str:
    """`head` itself, if the network has a linear layer of that name.

    Raises:
        HeadError: there is no such module, or it is another kind of layer.
    """
    modules = dict(model.named_modules())
    linear = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
    if head not in modules:
        near = nearest_names(head, linear) or linear[-3:]
        hint = f"linear layers there: {', '.join(near)}" if near else None
        raise HeadError(path, f"has no module {head!r}", hint=hint)
    if not isinstance(modules[head], nn.Linear):
        kind = type(modules[head]).__name__
        hint = f"linear layers there: {', '.join(linear[-3:])}" if linear else None
        raise HeadError(path, f"its module {head!r} is of type {kind}, no linear layer", hint=hint)
    return head


def prove_head(classifier: Classifier, batch: torch.Tensor) -> tuple[LinearHead, float]:
    """The head's weights, after showing on `batch` (n, c, h, w) that they turn activations into the logits.

    Returns:
        The head, and the largest difference of ``head(acts)`` from the logits relative to the largest logit.

    Raises:
        HeadError: the layer's input is not (n, d), or its output is not the network's.
        CheckpointError: the forward pass fails.
    """
    path, name = str(classifier.path), classifier.head_name
    calls, logits = _trace(classifier.model, [name], batch, path)
    if name not in calls:
        raise HeadError(path, f"its layer {name!r} is not used in a forward pass", hint=HINT)
    if len(calls[name].inputs) > 1:
        n_calls = len(calls[name].inputs)
        raise HeadError(path, f"its layer {name!r} is used {n_calls} times in a forward pass", hint=HINT)
    acts = calls[name].inputs[0]
    if acts.ndim != 2 or len(acts) != len(batch):
        shape = " x ".join(str(side) for side in acts.shape)
        why = f"the input of its layer {name!r} is {shape} for {len(batch)} pictures, expected one vector each"
        raise HeadError(path, why, hint=HINT)
    head = read_head(classifier.head, name)
    computed = torch.from_numpy(acts.float().numpy() @ head.weight.T + head.bias)
    if computed.shape != logits.shape:
        why = f"its layer {name!r} has {head.n_classes} outputs, the network returns {tuple(logits.shape)[1:]}"
        raise HeadError(path, why, hint=HINT)
    error = _relative_error(computed, logits)
    if not error <= TOLERANCE:
        why = f"its layer {name!r} ({head.d} -> {head.n_classes}) does not make the logits: {error:.2g} apart"
        raise HeadError(path, why, hint=HINT)
    return head, error


def read_head(layer: nn.Linear, module: str) -> LinearHead:
    """The layer's weights as arrays; zeros where it has no bias."""
    weight = layer.weight.detach().float().cpu().numpy()
    bias = np.zeros(len(weight), np.float32) if layer.bias is None else layer.bias.detach().float().cpu().numpy()
    return LinearHead(np.array(weight, order="C"), np.array(bias), module)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable and frozen parameters, buffers not counted."""
    return sum(parameter.numel() for parameter in model.parameters())


def _trace(
    model: nn.Module, names: list[str], batch: torch.Tensor, path: str
) -> tuple[dict[str, LayerCalls], torch.Tensor]:
    """Inputs and outputs of the named layers in the order they are first run, and the logits (n, k)."""
    calls: dict[str, LayerCalls] = {}

    def record(name: str, inputs: tuple[Any, ...], output: Any) -> None:
        seen = calls.setdefault(name, LayerCalls([], []))
        seen.inputs.append(inputs[0].detach().clone())
        seen.outputs.append(output.detach().clone())  # a later in-place operation must not change the evidence

    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda _, inputs, output, name=name: record(name, inputs, output)
        )
        for name in names
    ]
    try:
        with torch.inference_mode():
            logits = model(batch)
    except Exception as error:  # the network's own code may raise anything
        raise CheckpointError(
            path, f"a forward pass of {' x '.join(map(str, batch.shape))} failed ({summarise_error(error)})"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        kind = tuple(logits.shape) if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        raise HeadError(path, f"the network returns {kind}, expected logits (pictures x classes)", hint=HINT)
    return calls, logits


def _relative_error(computed: torch.Tensor, logits: torch.Tensor) -> float:
    if computed.shape != logits.shape:
        return float("inf")
    scale = float(logits.abs().max()) or 1.0
    return float((computed - logits).abs().max()) / scale


def _name_last(model: nn.Module) -> str:
    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    name, module = leaves[-1]
    return f"{name!r} ({type(module).__name__})" if name else type(module).__name__
