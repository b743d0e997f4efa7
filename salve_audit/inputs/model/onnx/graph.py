"""The final linear map of an ONNX graph: back from the output to the layers whose weights are constants.

``logits = Σ_i W_i a_i + b`` with one term per layer (Gemm, MatMul, 1x1 Conv); sums, biases, constant factors and
averages over positions on the way are folded in. That it is really so is verified afterwards on real images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from salve_audit.errors import HeadError
from salve_audit.inputs.reasons import summarise_error

# what leaves the values of logits as they are
PASSED = ("Identity", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Cast")
ENDINGS = ("Softmax", "LogSoftmax", "Sigmoid")
POOLS = ("GlobalAveragePool", "ReduceMean", "AveragePool")
NAMED_LAST = 3
HINT = "name the final Gemm, MatMul or Conv node (or its output) with --head"


@dataclass(frozen=True)
class Term:
    """One layer of the final map.

    Attributes:
        tensor: name of its input in the graph.
        node: the layer's name, for the report.
        weight: (k, d).
        is_map: its input is (n, d, h, w), else (n, d) or (n, positions, d).
    """

    tensor: str
    node: str
    weight: Float[np.ndarray, "k d"]
    is_map: bool


@dataclass(frozen=True)
class FinalMap:
    """The terms and the common bias (k,), 0 where there is none."""

    terms: tuple[Term, ...]
    bias: Float[np.ndarray, " k"]

    @property
    def name(self) -> str:
        """The layers' names; a dot would be a path to torch, a comma two layers."""
        return "+".join(term.node for term in self.terms).replace(".", "_").replace(",", "_")

    @property
    def weight(self) -> Float[np.ndarray, "k d"]:
        """All layers side by side."""
        return np.concatenate([term.weight for term in self.terms], axis=1)

    def plus(self, other: FinalMap) -> FinalMap:
        return FinalMap(self.terms + other.terms, self.bias + other.bias)

    def times(self, factor: float) -> FinalMap:
        terms = tuple(dataclasses.replace(term, weight=factor * term.weight) for term in self.terms)
        return FinalMap(terms, factor * self.bias)


class Graph:
    """A graph by its tensors: the node that makes each of them, and the constants."""

    def __init__(self, graph: Any, path: str) -> None:
        from onnx import numpy_helper

        self.path = path
        self.nodes = list(graph.node)
        self.makers = {name: node for node in graph.node for name in node.output if name}
        self.to_array: Callable[[Any], np.ndarray] = numpy_helper.to_array
        self.stored: Mapping[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
        self.output = graph.output[0].name

    def constant(self, name: str) -> np.ndarray | None:
        """The values of a tensor that depends on no image; None where it does, or is computed in other ways."""
        if name in self.stored:
            return self.to_array(self.stored[name])
        node = self.makers.get(name)
        if node is None:
            return None
        settings = read_attributes(node)
        if node.op_type == "Constant":
            value = settings.get("value")
            return None if value is None else self.to_array(value)
        inner = self.constant(node.input[0]) if node.input else None
        if inner is None:
            return None
        if node.op_type == "Transpose":
            return np.transpose(inner, settings.get("perm"))
        if node.op_type in ("Identity", "Cast"):
            return inner
        return self._dequantised(node, inner) if node.op_type == "DequantizeLinear" else None

    def _dequantised(self, node: Any, stored: np.ndarray) -> np.ndarray | None:
        """``(stored - zero) * scale``, for the whole tensor or along one axis."""
        scale = self.constant(node.input[1])
        zero = self.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
        if scale is None or zero is None:
            return None
        axis = int(read_attributes(node).get("axis", 1))
        shape = [1] * stored.ndim
        if scale.size > 1:
            shape[axis] = -1
        return (stored.astype(np.float32) - zero.astype(np.float32).reshape(shape if zero.size > 1 else ())) * (
            scale.astype(np.float32).reshape(shape if scale.size > 1 else ())
        )


def read_attributes(node: Any) -> dict[str, Any]:
    """The node's settings by name."""
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def find_final_map(graph: Graph, head: str | None) -> FinalMap:
    """The layers that make the first output, or those of the node `head`.

    Raises:
        HeadError: there is no such node, or the graph ends with nothing linear; names its last nodes.
    """
    start = graph.output
    if head is not None:
        named = [node for node in graph.nodes if head in (node.name, *node.output)]
        if not named:
            raise HeadError(graph.path, f"has no node or tensor {head!r}", hint=HINT)
        start = named[0].output[0]
    try:
        final_map = _walk(graph, start, 0)
        return _finish(graph, final_map)
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, RecursionError) as error:
        # shapes, axes, types and numbers of inputs are the file's own
        raise HeadError(graph.path, f"its graph is damaged ({summarise_error(error)})") from error


def _finish(graph: Graph, final_map: FinalMap | None) -> FinalMap:
    """The final map with one bias for every output."""
    if final_map is None or not final_map.terms:
        last = ", ".join(f"{node.name or node.output[0]!r} ({node.op_type})" for node in graph.nodes[-NAMED_LAST:])
        raise HeadError(graph.path, f"no linear layer makes its output; it ends with {last}", hint=HINT)
    k = len(final_map.terms[0].weight)
    if any(len(term.weight) != k for term in final_map.terms):
        raise HeadError(graph.path, f"its final layers {final_map.name} have different numbers of outputs", hint=HINT)
    return FinalMap(final_map.terms, np.broadcast_to(final_map.bias, (k,)).astype(np.float32))


def _walk(graph: Graph, tensor: str, depth: int) -> FinalMap | None:
    """The linear map that makes `tensor`, or None."""
    node = graph.makers.get(tensor)
    if node is None or depth > len(graph.nodes):
        return None
    kind = node.op_type
    if kind in ("Gemm", "MatMul", "Conv"):
        return {"Gemm": _read_gemm, "MatMul": _read_matmul, "Conv": _read_conv}[kind](graph, node)
    if kind in (*PASSED, *POOLS, *ENDINGS):
        return _walk(graph, node.input[0], depth + 1)
    if kind in ("Add", "Sub", "Mul", "Div"):
        return _read_arithmetic(graph, node, depth)
    if kind in ("Sum", "Mean"):
        parts = [_walk(graph, name, depth + 1) for name in node.input]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts) or not known:
            return None
        total = known[0]
        for part in known[1:]:
            total = total.plus(part)
        return total.times(1 / len(parts)) if kind == "Mean" else total
    return None


def _read_arithmetic(graph: Graph, node: Any, depth: int) -> FinalMap | None:
    left, right = (graph.constant(name) for name in node.input)
    if left is not None and right is None and node.op_type in ("Add", "Mul"):
        first, constant = node.input[1], left
    elif right is not None:
        first, constant = node.input[0], right
    elif node.op_type in ("Add", "Sub"):
        before, added = (_walk(graph, name, depth + 1) for name in node.input)
        if before is None or added is None:
            return None
        return before.plus(added if node.op_type == "Add" else added.times(-1.0))
    else:
        return None
    inner = _walk(graph, first, depth + 1)
    if inner is None:
        return None
    values = constant.astype(np.float32)
    if node.op_type in ("Add", "Sub"):
        shift = values.reshape(-1) if node.op_type == "Add" else -values.reshape(-1)
        return FinalMap(inner.terms, inner.bias + shift) if shift.size in (1, len(inner.terms[0].weight)) else None
    if values.size != 1:
        return None
    return inner.times(float(values.reshape(())) if node.op_type == "Mul" else 1 / float(values.reshape(())))


def _read_gemm(graph: Graph, node: Any) -> FinalMap | None:
    """``alpha * a B + beta * C``."""
    settings = read_attributes(node)
    matrix = graph.constant(node.input[1])
    shift = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    if matrix is None or matrix.ndim != 2 or shift is None or settings.get("transA", 0):
        return None
    weight = matrix if settings.get("transB", 0) else matrix.T
    term = _term(graph, node, node.input[0], settings.get("alpha", 1.0) * weight)
    return FinalMap((term,), (settings.get("beta", 1.0) * shift).astype(np.float32).reshape(-1))


def _read_matmul(graph: Graph, node: Any) -> FinalMap | None:
    matrix = graph.constant(node.input[1])
    if matrix is None or matrix.ndim != 2:
        return None
    return FinalMap((_term(graph, node, node.input[0], matrix.T),), np.zeros(1, np.float32))


def _read_conv(graph: Graph, node: Any) -> FinalMap | None:
    settings = read_attributes(node)
    kernel = graph.constant(node.input[1])
    shift = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    plain = all(stride == 1 for stride in settings.get("strides", ())) and not any(settings.get("pads", ()))
    if kernel is None or shift is None or kernel[0, 0].size != 1 or settings.get("group", 1) != 1 or not plain:
        return None
    weight = kernel.reshape(kernel.shape[:2])
    return FinalMap((_term(graph, node, node.input[0], weight, is_map=True),), shift.astype(np.float32).reshape(-1))


def _term(graph: Graph, node: Any, tensor: str, weight: np.ndarray, is_map: bool = False) -> Term:
    return Term(tensor, node.name or node.output[0], np.ascontiguousarray(weight, dtype=np.float32), is_map)
