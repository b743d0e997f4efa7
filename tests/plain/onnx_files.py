"""Hand-made ONNX graphs with heads of several forms, and what onnxruntime makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

D, K = 6, 3
METADATA = {
    "mean": "[0.5, 0.5, 0.5]",
    "std": "0.5, 0.5, 0.5",
    "interpolation": "bilinear",
    "crop_pct": "1.0",
    "class_names": "{0: 'blue', 1: 'green', 2: 'red'}",
}


def weights() -> dict[str, np.ndarray]:
    """A filter bank and a head that tell the colours: channel differences, then one row per colour."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(D, 3, 4, 4)) * 0.02
    for channel in range(3):
        kernel[channel, channel] += 0.06
    head = np.concatenate([2 * np.eye(3)[[2, 1, 0]] - 1, 0.1 * rng.normal(size=(K, D - 3))], axis=1)
    arrays = {"kernel": kernel, "kernel_bias": np.full(D, 0.3), "head": head, "bias": np.array([0.1, 0.0, -0.1])}
    return {name: np.asarray(values, dtype=np.float32) for name, values in arrays.items()}


def body(batch: int | str) -> list[Any]:
    return [
        helper.make_node("Conv", ["x", "kernel", "kernel_bias"], ["map"], "stem", strides=[4, 4]),
        helper.make_node("Relu", ["map"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["acts"]),
    ]


def tail_gemm(w: dict[str, np.ndarray]) -> tuple[list[Any], dict[str, np.ndarray], str]:
    return [helper.make_node("Gemm", ["acts", "head", "bias"], ["y"], "fc", transB=1)], w, "fc"


def tail_matmul(w: dict[str, np.ndarray]) -> tuple[list[Any], dict[str, np.ndarray], str]:
    nodes = [
        helper.make_node("Transpose", ["head"], ["head_t"], perm=[1, 0]),
        helper.make_node("MatMul", ["acts", "head_t"], ["product"], "matmul"),
        helper.make_node("Add", ["bias", "product"], ["y"]),
    ]
    return nodes, w, "matmul"


def tail_plain_matmul(w: dict[str, np.ndarray]) -> tuple[list[Any], dict[str, np.ndarray], str]:
    return [helper.make_node("MatMul", ["acts", "columns"], ["y"], "matmul")], {**w, "columns": w["head"].T}, "matmul"


def tail_conv(w: dict[str, np.ndarray]) -> tuple[list[Any], dict[str, np.ndarray], str]:
    nodes = [
        helper.make_node("Conv", ["relu", "kernel_1x1", "bias"], ["scores"], "classifier"),
        helper.make_node("ReduceMean", ["scores", "axes"], ["y"], keepdims=0),
    ]
    return nodes, {**w, "kernel_1x1": w["head"][:, :, None, None], "axes": np.array([2, 3])}, "classifier"


def tail_two_heads(w: dict[str, np.ndarray]) -> tuple[list[Any], dict[str, np.ndarray], str]:
    nodes = [
        helper.make_node("Gemm", ["acts", "head", "bias"], ["one"], "head", transB=1, alpha=1.5, beta=0.5),
        helper.make_node("Relu", ["acts"], ["again"]),
        helper.make_node("Gemm", ["again", "head"], ["two"], "head_dist", transB=1),
        helper.make_node("Add", ["one", "two"], ["sum"]),
        helper.make_node("Div", ["sum", "half"], ["y"]),
    ]
    return nodes, {**w, "half": np.float32(2)}, "head+head_dist"


def tail_softmax(w: dict[str, np.ndarray]) -> tuple[list[Any], dict[str, np.ndarray], str]:
    nodes, w, name = tail_gemm(w)
    nodes[-1].output[0] = "logits"
    return [*nodes, helper.make_node("Softmax", ["logits"], ["y"], axis=1)], w, name


def tail_quantised(w: dict[str, np.ndarray]) -> tuple[list[Any], dict[str, np.ndarray], str]:
    scale = np.abs(w["head"]).max(1) / 127
    nodes = [
        helper.make_node("DequantizeLinear", ["head_8", "head_scale", "head_zero"], ["head_f"], axis=0),
        helper.make_node("Gemm", ["acts", "head_f", "bias"], ["y"], "fc", transB=1),
    ]
    stored = np.round(w["head"] / scale[:, None]).astype(np.int8)
    return nodes, {**w, "head_8": stored, "head_scale": scale, "head_zero": np.zeros(K, np.int8)}, "fc"


TAILS = [tail_gemm, tail_matmul, tail_plain_matmul, tail_conv, tail_two_heads, tail_softmax, tail_quantised]


def write(
    path: Path,
    tail: Callable = tail_gemm,
    batch: int | str = "n",
    metadata: dict[str, str] = METADATA,
    side: int | str = 32,
    channels_last: bool = False,
) -> str:
    """A graph with that ending at `path`; the name its head should be given."""
    nodes, arrays, name = tail(weights())
    sides = [side, side, 3] if channels_last else [3, side, side]
    first = [helper.make_node("Transpose", ["images"], ["x"], perm=[0, 3, 1, 2])] if channels_last else []
    given = "images" if channels_last else "x"
    used = {name for node in [*body(batch), *nodes] for name in node.input}
    graph = helper.make_graph(
        [*first, *body(batch), *nodes],
        "colours",
        [helper.make_tensor_value_info(given, TensorProto.FLOAT, [batch, *sides])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, K])],
        [numpy_helper.from_array(values, key) for key, values in arrays.items() if key in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return name


def images(data: Path, out: Path) -> np.ndarray:
    paths = pd.read_parquet(out / "samples.parquet").path
    arrays = [np.asarray(Image.open(data / path), dtype=np.float32) / 255 for path in paths]
    return np.ascontiguousarray(((np.stack(arrays) - 0.5) / 0.5).transpose(0, 3, 1, 2))


def run_alone(path: Path, batch: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: batch})[0]
