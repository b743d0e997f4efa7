"""TorchScript archives as a network with a final linear layer of its own; loading one runs its code.

TorchScript is deprecated by PyTorch; torch.export programs (`exported`) take its place.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from salve_audit.errors import CheckpointError, HeadError
from salve_audit.inputs.model.formats.program import Acts, Program, no_linear_end
from salve_audit.inputs.reasons import summarise_error

TRAINING_ARGUMENT = {"aten::dropout": 2, "aten::batch_norm": 5}


def load_torchscript(path: Path) -> tuple[nn.Module, str]:
    """The archive's network, and what it is called.

    Raises:
        CheckpointError: it cannot be loaded, or was traced while training.
        HeadError: its graph does not end with a linear layer.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript announces its own end
            load: Any = torch.jit.load
            script: Any = load(str(path), map_location="cpu")
            script = script.float().eval()
            graph = script.inlined_graph
    except Exception as error:  # its code may raise anything
        raise CheckpointError(str(path), f"cannot be loaded ({summarise_error(error)})") from error
    for kind, argument in TRAINING_ARGUMENT.items():
        for node in graph.findAllNodes(kind):
            if list(node.inputs())[argument].toIValue() is True:
                raise CheckpointError(str(path), "was traced while training", hint="trace model.eval()")
    output = next(iter(graph.outputs()))
    acts, weight, bias = _split_linear(output.node(), str(path))
    _return_both(graph, acts, output)
    function = torch._C._create_function_from_graph("with_acts", graph)
    layer = (_read_value(weight, script), _read_value(bias, script))
    return Program(_Script(script, function), *layer), f"TorchScript {script.original_name}"


class _Script(Acts):
    """The script's graph with its last linear layer's input as a second output.

    The script is no part of the module tree: its parts take no hooks, and need none.
    """

    script: Any

    def __init__(self, script: Any, function: Any) -> None:
        super().__init__()
        self.__dict__["script"] = script
        self.shared = _Shared(function)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        acts, logits = self.shared.function(self.script._c, images)
        return acts, logits

    def list_parameters(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield from self.script.named_parameters()

    def _apply(self, fn: Any, recurse: bool = True) -> _Script:
        self.script._apply(fn)
        return self


class _Shared:
    """A compiled function, which copies of a network have in common."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __deepcopy__(self, memo: Any) -> _Shared:
        return self


def _split_linear(node: Any, path: str) -> tuple[Any, Any, Any]:
    """Input, weight (k, d) and bias of the linear layer `node`."""
    if node is None or node.kind() not in ("aten::linear", "aten::addmm"):
        raise no_linear_end(path, node.kind() if node is not None else "nothing")
    inputs = list(node.inputs())
    if node.kind() == "aten::linear":
        return inputs[0], inputs[1], inputs[2]
    turned = inputs[2].node()
    if turned.kind() not in ("aten::t", "aten::transpose", "aten::numpy_T"):
        raise no_linear_end(path, node.kind())
    return inputs[1], next(iter(turned.inputs())), inputs[0]


def _return_both(graph: Any, acts: Any, output: Any) -> None:
    both = graph.create("prim::TupleConstruct", [acts, output], 1)
    graph.insertNode(both)
    both.output().setType(torch._C.TupleType([acts.type(), output.type()]))
    graph.eraseOutput(0)
    graph.registerOutput(both.output())


def _read_value(value: Any, script: Any) -> torch.Tensor | None:
    """The tensor behind a constant or a chain of attributes; None where the layer has no bias."""
    names: list[str] = []
    while value.node().kind() == "prim::GetAttr":
        names.append(value.node().s("name"))
        value = next(iter(value.node().inputs()))
    if not names:
        constant = value.toIValue()
        if constant is not None and not isinstance(constant, torch.Tensor):
            raise HeadError("TorchScript", "its final layer's weights are no tensors")
        return constant
    holder = script
    for name in reversed(names):
        holder = getattr(holder, name)
    assert isinstance(holder, torch.Tensor), f"{'.'.join(reversed(names))} is a {type(holder).__name__}"
    return holder
