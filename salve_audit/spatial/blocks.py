"""The first block of a network: early enough to distinguish things by their looks, late enough for more than edges."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from salve_audit.spatial.layers import SpatialLayer

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
LEAST_LAYERS = 2  # with weights, in a block


def first_block(model: nn.Module, layers: Sequence[SpatialLayer]) -> SpatialLayer:
    """The first spatial layer that is a block in a row of blocks, or the row; without any, one a third of the way down.

    Args:
        layers: of `find_spatial_layers`, at least one.
    """
    blocks = [layer for layer in layers if _is_block(model, layer.name)]
    return blocks[0] if blocks else layers[len(layers) // 3]


def _is_block(model: nn.Module, name: str) -> bool:
    module, parent = model.get_submodule(name), model.get_submodule(name.rpartition(".")[0])
    if isinstance(module, CONTAINERS):  # a row of one block has the block's output and the shorter name
        return any(_count_layers(child) >= LEAST_LAYERS for child in module.children())
    return isinstance(parent, CONTAINERS) and _count_layers(module) >= LEAST_LAYERS


def _count_layers(module: nn.Module) -> int:
    """Layers with a weight matrix or kernel."""
    weights = (getattr(part, "weight", None) for part in module.modules())
    return sum(weight is not None and weight.ndim >= 2 for weight in weights)
