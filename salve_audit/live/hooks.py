"""Hooks that were put on a module from outside, and those that are a part of the network."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn
from torch.nn.utils.prune import BasePruningMethod

TABLES = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
LIBRARIES = ("torch", "torchvision", "timm", "transformers")  # their hooks make weights, or hand features on


class Hook(NamedTuple):
    """A hook and where it is: dotted path of the module, name of its table of hooks, key in it."""

    path: str
    table: str
    key: int
    function: Any


def find_foreign_hooks(model: nn.Module) -> Iterator[Hook]:
    """Hooks that neither the network nor a library put there: those that record, print, or edit outputs.

    weight_norm, spectral_norm and pruning compute weights in hooks before the forward pass, and a network may pick up
    features with methods of its own; without them it would be another network.
    """
    own = {id(module) for module in model.modules()}
    for path, module in model.named_modules():
        for table in TABLES:
            for key, function in getattr(module, table).items():
                if not _belongs(function, own):
                    yield Hook(path, table, key, function)


def _belongs(function: Any, own: set[int]) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    holder = getattr(function, "__self__", function)
    place = getattr(function, "__module__", None) or type(holder).__module__
    return id(holder) in own or isinstance(holder, BasePruningMethod) or place.partition(".")[0] in LIBRARIES
