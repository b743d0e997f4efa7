"""One forward pass watched: what chosen layers are given and return, and what the network returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from salve_audit.errors import CheckpointError, HeadError
from salve_audit.inputs.reasons import summarise_error

HINT = "name the final linear layer with --head MODULE; the network must return its output unchanged"


@dataclass(frozen=True)
class LayerCalls:
    """The inputs and outputs of one layer, call by call."""

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Trace:
    """One pass: calls by layer, in the order in which the layers first ran, and the network's output (n, k)."""

    calls: dict[str, LayerCalls]
    output: Tensor


def trace(model: nn.Module, names: Iterable[str], batch: Tensor, path: str) -> Trace:
    """Runs `batch` (n, c, h, w) and watches the named layers.

    Raises:
        CheckpointError: the pass fails.
        HeadError: the network returns no logits, (n, k) or (n,).
    """
    calls: dict[str, LayerCalls] = {}

    def watch(name: str) -> Any:
        def hook(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
            given = _first_tensor(arguments, keywords)
            if given is not None and isinstance(output, Tensor):
                layer_calls = calls.setdefault(name, LayerCalls())
                # copies, since a later in-place operation must not change the evidence
                layer_calls.inputs.append(given.detach().clone())
                layer_calls.outputs.append(output.detach().clone())

        return model.get_submodule(name).register_forward_hook(hook, with_kwargs=True)

    handles = [watch(name) for name in names]
    try:
        with torch.inference_mode():
            output = model(batch)
    except Exception as error:  # the network's own code may raise anything
        why = f"a forward pass of {' x '.join(map(str, batch.shape))} failed ({summarise_error(error)})"
        raise CheckpointError(path, why) from error
    finally:
        for handle in handles:
            handle.remove()
    return Trace(calls, as_logits(output, len(batch), path))


def watch_inputs(model: nn.Module, name: str, inputs: dict[str, list[Tensor]]) -> RemovableHandle:
    """Hooks the layer `name`: every input of it is added to ``inputs[name]``."""

    def hook(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        given = _first_tensor(arguments, keywords)
        if given is not None:
            inputs.setdefault(name, []).append(given)

    return model.get_submodule(name).register_forward_pre_hook(hook, with_kwargs=True)


def _first_tensor(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Tensor | None:
    return next((argument for argument in (*arguments, *keywords.values()) if isinstance(argument, Tensor)), None)


def as_logits(output: Any, n: int, path: str) -> Tensor:
    """The network's output as (n, k); (n,) is one output.

    Of an object or a mapping its ``logits`` (Hugging Face), of a tuple its first part (auxiliary outputs follow).
    """
    if isinstance(output, Mapping):
        tensor = output.get("logits", output)
    elif isinstance(getattr(output, "logits", None), Tensor):
        tensor = output.logits
    else:
        tensor = output[0] if isinstance(output, (tuple, list)) and output else output
    if isinstance(tensor, Tensor) and tensor.ndim > 2 and tensor.shape[2:].numel() == 1:
        tensor = tensor.flatten(1)
    if isinstance(tensor, Tensor) and tensor.shape == (n,):
        tensor = tensor[:, None]
    if not isinstance(tensor, Tensor) or tensor.ndim != 2 or len(tensor) != n:
        kind = tuple(tensor.shape) if isinstance(tensor, Tensor) else f"a {type(tensor).__name__}"
        raise HeadError(path, f"the network returns {kind}, expected logits (images x classes)", hint=HINT)
    return tensor.float()
