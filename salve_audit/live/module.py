"""A given module, and a copy of it to work on: unwrapped, whole, and never the caller's own."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from salve_audit.errors import CheckpointError, UsageError
from salve_audit.inputs.reasons import summarise_error
from salve_audit.live.hooks import find_foreign_hooks

WRAPPERS = ("DistributedDataParallel", "DataParallel")  # the network is their `module`
SHARDED = ("FullyShardedDataParallel", "FSDPModule")
NOT_COPIED = ("_trainer", "_fabric", "trainer")  # of Lightning modules: what trains them, with all of the data
HINT = "give a torch.nn.Module; a checkpoint is audited with run_audit(AuditConfig(model=PATH, data=DIR))"


def require_module(model: object, name: str = "model") -> nn.Module:
    """The network without what wraps it: DataParallel, DistributedDataParallel, torch.compile.

    Raises:
        UsageError: it is no module, or one whose weights are not all here.
    """
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise UsageError(name, f"is the class {model.__name__}, expected an instance of it", hint=HINT)
    if not isinstance(model, nn.Module):
        raise UsageError(name, f"expected a torch.nn.Module, got {type(model).__name__}", hint=HINT)
    while True:
        kinds = {kind.__name__ for kind in type(model).__mro__}
        inner = getattr(model, "_orig_mod", None)  # of torch.compile
        if kinds & set(SHARDED):
            raise UsageError(name, "its weights are sharded over processes", hint="gather them into a plain module")
        if kinds & set(WRAPPERS):
            inner = model.module
        if not isinstance(inner, nn.Module):
            break
        model = inner
    if isinstance(model, torch.jit.ScriptModule):
        raise UsageError(name, "is TorchScript, whose layers cannot be watched", hint="give the module it was made of")
    return model


def copy_module(model: nn.Module, name: str = "model", *, hooks: bool = True) -> nn.Module:
    """A copy that shares no tensor with `model`; what trains it is left out.

    Args:
        model: to copy.
        name: for messages.
        hooks: also of those that were put on it from outside; a copy to measure has none of them.

    Raises:
        CheckpointError: it cannot be copied.
    """
    foreign = [] if hooks else list(find_foreign_hooks(model))
    memo: dict[int, Any] = {id(hook.function): None for hook in foreign}
    for module in model.modules():
        for key, value in vars(module).items():
            if key in NOT_COPIED and not isinstance(value, (nn.Module, Tensor)):
                memo[id(value)] = None
            memo.update({id(tensor): tensor.detach().clone() for tensor in _computed(value)})
    try:
        copied: nn.Module = copy.deepcopy(model, memo)
    except Exception as error:  # anything may hang on a module
        raise CheckpointError(name, f"cannot be copied ({summarise_error(error)})") from error
    for hook in foreign:
        getattr(copied.get_submodule(hook.path), hook.table).pop(hook.key, None)
    return copied


def _computed(value: object) -> Iterator[Tensor]:
    """Tensors with a history, which torch refuses to copy: left by a pass, or by weight_norm."""
    if isinstance(value, Tensor):
        if value.grad_fn is not None:
            yield value
    elif type(value) in (list, tuple):
        for item in value:  # type: ignore[attr-defined]
            yield from _computed(item)
    elif type(value) is dict:
        for item in value.values():
            yield from _computed(item)


@dataclass(frozen=True)
class Part:
    """The part of a module that is run: all of it, or the one child that has the forward pass.

    Attributes:
        name: dotted path of the child; empty: the module itself.
        note: for the reader of a report; empty: nothing is to be said.
    """

    name: str = ""
    note: str = ""


def find_part(model: nn.Module, batch: Tensor, name: str) -> Part:
    """The module itself, or, where it has no forward pass of its own (a Lightning module), its only network.

    Args:
        model: a copy, in eval mode on the CPU.
        batch: (n, c, h, w).
        name: for messages.

    Raises:
        CheckpointError: it has none, and several children that could be meant.
    """
    try:
        with torch.inference_mode():
            model(batch)
    except NotImplementedError as error:
        able = [child for child, module in model.named_children() if any(True for _ in module.parameters())]
        named = [child for child in ("model", "net", "network") if child in able]
        chosen = able if len(able) == 1 else named
        if not chosen:
            hint = f"give one of its parts: {', '.join(able)}" if able else None
            raise CheckpointError(name, "has no forward pass of its own", hint=hint) from error
        return Part(chosen[0], f"the module has no forward pass of its own; its part {chosen[0]!r} is audited")
    except Exception:  # whoever looks for the head says what is wrong, with the shape of the batch
        return Part()
    return Part()
