"""torch.export programs as a network with a final linear layer of its own; loading one runs code of the file."""

from __future__ import annotations

import operator
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.formats.program import Acts, Program, no_linear_end
from salve_audit.inputs.reasons import summarise_error

TRANSPOSES = ("aten.t.default", "aten.permute.default", "aten.transpose.int")


def load_exported(path: Path) -> tuple[nn.Module, str, tuple[int, ...] | None]:
    """The program's network, what it is called, and (channels, height, width) of its images where they are fixed.

    Raises:
        CheckpointError: it cannot be loaded, or takes more than images.
        HeadError: its graph does not end with a linear layer.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module: Any = torch.export.load(path).module()
    except Exception as error:  # a program of another version of torch, or damaged
        raise CheckpointError(str(path), f"cannot be loaded ({summarise_error(error)})") from error
    places = [node for node in module.graph.nodes if node.op == "placeholder"]
    if len(places) != 1:
        raise CheckpointError(str(path), f"takes {len(places)} inputs, expected one batch of images")
    shape = places[0].meta["val"].shape
    weight, bias = _return_both(module, str(path))
    n_fixed = int(shape[0]) if isinstance(shape[0], int) else None
    size = tuple(int(side) for side in shape[1:]) if all(isinstance(side, int) for side in shape[1:]) else None
    layer = (_read(module, weight), None if bias is None else _read(module, bias))
    return Program(_Exported(module, n_fixed), *layer), "torch.export program", size


class _Exported(Acts):
    """The program's graph with its last linear layer's input as a second output.

    Attributes:
        n_fixed: images that the program takes at once, if it was exported for one number only.
    """

    def __init__(self, module: Any, n_fixed: int | None) -> None:
        super().__init__()
        self.module = module
        self.n_fixed = n_fixed

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.n_fixed is None:
            acts, logits = self.module(images.contiguous())
            return acts, logits
        parts = []
        for part in torch.split(images.contiguous(), self.n_fixed):
            filled = torch.cat([part, part[-1:].expand(self.n_fixed - len(part), *part.shape[1:])])
            parts.append([output[: len(part)] for output in self.module(filled)])
        return torch.cat([acts for acts, _ in parts]), torch.cat([logits for _, logits in parts])

    def train(self, mode: bool = True) -> _Exported:
        return self  # a program has one mode, and forbids to be asked


def _return_both(module: Any, path: str) -> tuple[Any, Any]:
    """Makes the program return (acts, logits); the nodes of the last linear layer's weight and bias."""
    output = next(node for node in module.graph.nodes if node.op == "output")
    logits = output.args[0]
    while isinstance(logits, (tuple, list)) and len(logits) == 1:
        logits = logits[0]
    acts, weight, bias = _split_linear(logits, path)
    output.args = ((acts, logits),)
    spec = torch.utils._pytree.tree_structure((0, 0))
    code = module.graph._codegen
    code.pytree_info = code.pytree_info._replace(out_spec=spec)
    module._out_spec = spec
    module.recompile()
    return weight, bias


def _split_linear(node: Any, path: str) -> tuple[Any, Any, Any]:
    target = str(getattr(node, "target", node))
    if target == "aten.linear.default":
        return node.args[0], node.args[1], node.args[2] if len(node.args) > 2 else None
    if target == "aten.addmm.default" and str(node.args[2].target) in TRANSPOSES:
        return node.args[1], node.args[2].args[0], node.args[0]
    raise no_linear_end(path, target)


def _read(module: Any, node: Any) -> torch.Tensor:
    value: torch.Tensor = operator.attrgetter(str(node.target))(module)
    return value
