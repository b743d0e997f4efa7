"""An ONNX graph as a torch module: onnxruntime computes, and the final layer can be read and verified."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.onnx.graph import FinalMap
from salve_audit.inputs.model.onnx.onnx_file import OnnxFile
from salve_audit.inputs.reasons import summarise_error

FLOATS = {1: np.float32, 10: np.float16, 11: np.float64}  # element types of an input that images can be given as


class OnnxNetwork(nn.Module):
    """Runs the graph on the CPU and returns its own output; a linear layer runs beside it, on the graph's activations.

    That layer has the name of the graph's own, and ``head(acts)`` can be compared with what the graph returns, as in
    any other network. Copies share the session.
    """

    def __init__(self, file: OnnxFile, final: FinalMap) -> None:
        super().__init__()
        k, d = final.weight.shape
        head = nn.Linear(d, k)
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(final.weight))
            head.bias.copy_(torch.from_numpy(final.bias.copy()))
        self.head_name = final.name
        self.add_module(self.head_name, head)
        self._session = _open_session(file, final)
        self._input = self._session.get_inputs()[0].name
        self._output = file.proto.graph.output[0].name
        self._terms = final.terms
        value = image_input(file)
        self._kind = FLOATS[value.type.tensor_type.elem_type]
        sides = input_sides(file)
        self._batch = sides[0]
        self._channels_last = sides[1] not in (1, 3) and sides[3] in (1, 3)

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxNetwork:
        clone = copy.copy(self)  # the session is shared: nothing in it changes, and it cannot be copied
        clone._modules = copy.deepcopy(self._modules, memo)
        return clone

    def forward(self, images: Float[Tensor, "n c h w"]) -> Tensor:
        given = images.detach().cpu().float().numpy()
        array = np.ascontiguousarray(np.moveaxis(given, 1, 3) if self._channels_last else given, dtype=self._kind)
        names = [self._output, *dict.fromkeys(term.tensor for term in self._terms)]
        results = dict(zip(names, self._run(names, array), strict=True))
        acts = [_as_vectors(results[term.tensor], term.is_map) for term in self._terms]
        head = self.get_submodule(self.head_name)
        head(torch.cat(acts, dim=1).to(next(head.parameters()).device))
        return torch.from_numpy(results[self._output]).to(images.device)

    def _run(self, names: list[str], array: np.ndarray) -> list[np.ndarray]:
        """The named tensors for all images; in slices where the graph has a fixed batch size."""
        if self._batch is None:
            results: list[np.ndarray] = self._session.run(names, {self._input: array})
            return results
        parts = []
        for start in range(0, len(array), self._batch):
            slice_ = array[start : start + self._batch]
            missing = self._batch - len(slice_)
            padded = np.concatenate([slice_, np.repeat(slice_[-1:], missing, axis=0)]) if missing else slice_
            parts.append([result[: len(slice_)] for result in self._session.run(names, {self._input: padded})])
        return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _as_vectors(tensor: np.ndarray, is_map: bool) -> Float[Tensor, "n d"]:
    """Activations averaged over the positions, where there are any."""
    values = torch.from_numpy(np.ascontiguousarray(tensor, dtype=np.float32))
    if values.ndim <= 2:
        return values
    return values.flatten(2).mean(2) if is_map else values.flatten(1, -2).mean(1)


def image_input(file: OnnxFile) -> Any:
    """The graph's one input, four axes of floating-point numbers.

    Raises:
        CheckpointError: it has another number of inputs, or another kind of input.
    """
    graph = file.proto.graph
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise CheckpointError(str(file.path), f"takes {len(inputs)} inputs ({names}), expected one: images")
    kind, n_axes = inputs[0].type.tensor_type.elem_type, len(inputs[0].type.tensor_type.shape.dim)
    if kind not in FLOATS or n_axes != 4:
        why = f"its input {inputs[0].name!r} has {n_axes} axes of element type {kind}"
        raise CheckpointError(str(file.path), f"{why}, expected 4 axes of floating-point numbers: images")
    return inputs[0]


def input_sides(file: OnnxFile) -> list[int | None]:
    """The input's four sides; None where the graph leaves one open."""
    dims = image_input(file).type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims]


def _open_session(file: OnnxFile, final: FinalMap) -> Any:
    import onnx
    import onnxruntime

    proto = onnx.ModelProto()
    proto.CopyFrom(file.proto)
    known = {value.name for value in proto.graph.output}
    for name in dict.fromkeys(term.tensor for term in final.terms):
        if name not in known:
            proto.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it has to say comes as an exception
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads leave the cores alone
    try:
        return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # unknown operators, versions, shapes
        raise CheckpointError(str(file.path), f"onnxruntime cannot run it ({summarise_error(error)})") from error
