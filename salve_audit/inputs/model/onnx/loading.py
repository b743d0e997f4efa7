"""ONNX file to Classifier."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from salve_audit.errors import CheckpointError
from salve_audit.inputs.labels.class_names import (
    NamedClasses,
    choose_class_names,
    describe_class_names,
    find_class_names,
)
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.formats.sidecar import ALSO_KNOWN, Sidecar, read_sidecar, sidecar_of
from salve_audit.inputs.model.head.search import find_head
from salve_audit.inputs.model.network import Network
from salve_audit.inputs.model.onnx.graph import FinalMap, Graph, find_final_map
from salve_audit.inputs.model.onnx.onnx_file import OnnxFile, read_onnx
from salve_audit.inputs.model.onnx.session import OnnxNetwork, input_sides
from salve_audit.inputs.model.settings import translate_settings
from salve_audit.inputs.model.transform import resolve_transform
from salve_audit.inputs.model.weights import Checkpoint
from salve_audit.results.transform import TransformSpec

GENERAL = "general default of 224 pixels and ImageNet's mean: the file does not say"
LARGEST_SETTING = 1 << 20  # characters


def is_onnx(path: Path) -> bool:
    """True for the ending of an ONNX file; the format has no signature."""
    return path.suffix.lower() == ".onnx"


def load_onnx(path: Path, arch: str | None = None, head: str | None = None) -> Classifier:
    """The classifier in an ONNX file.

    Images are prepared as ``metadata_props`` says (input_size, mean, std, interpolation, crop_pct, crop_mode,
    class_names), at the size of the graph's input where that is fixed.

    Args:
        path: the file.
        arch: not for ONNX files.
        head: name of the final Gemm, MatMul or Conv node, or of its output; None: found by itself.

    Raises:
        CheckpointError: `arch` is given, the extra is not installed, or the file cannot be read or run.
        HeadError: the graph does not end with a linear layer.
    """
    if arch is not None:
        raise CheckpointError(str(path), "an ONNX file holds its own architecture", hint="leave --arch out")
    file = read_onnx(path)
    final = find_final_map(Graph(file.proto.graph, str(path)), head)
    model = OnnxNetwork(file, final).eval().requires_grad_(False)
    network = _describe_network(file, model)
    settings = translate_settings(_read_settings(file), "metadata_props")
    beside = read_sidecar(path)
    listed = () if beside.class_names is None else (NamedClasses(beside.name, beside.class_names),)
    named = (*listed, *find_class_names(settings.args))
    checkpoint = Checkpoint(
        path, file.sha256, "ONNX", (), args=settings.args, places=settings.places, sidecar=beside, named=named
    )
    transform, decisions = resolve_transform(checkpoint, network)
    reader = find_head(model, transform.input_size, str(path), head=model.head_name)
    chosen, _ = choose_class_names(named, reader.count_classes(model))
    return Classifier(
        model=model,
        architecture=network.architecture,
        format="ONNX",
        path=path,
        sha256=file.sha256,
        head_name=reader.name,
        transform=transform,
        class_names=None if chosen is None else chosen.names,
        trusted_code=False,
        notes=(*_list_notes(file, final, checkpoint.sidecar, transform), *reader.notes),
        build_key=network.build_key,
        head_reader=reader,
        decisions=(*decisions, *describe_class_names(named, reader.count_classes(model))),
    )


def _describe_network(file: OnnxFile, model: OnnxNetwork) -> Network:
    return Network(
        model,
        f"ONNX graph ({len(file.proto.graph.node)} nodes)",
        f"onnx {file.sha256}",
        declared=_declared(file),
        declared_by=file.path.name,
        default_source=GENERAL,
    )


def _list_notes(file: OnnxFile, final: FinalMap, sidecar: Sidecar, transform: TransformSpec) -> Iterator[str]:
    """Notes on the final layer, on outputs that are not audited, and on the transform where the file lacks it."""
    yield f"the final layer in the ONNX graph is {final.name}; the pass is run by onnxruntime on the CPU"
    outputs = [output.name for output in file.proto.graph.output]
    if len(outputs) > 1:
        yield f"the graph has {len(outputs)} outputs, of which the first, {outputs[0]!r}, is audited"
    if sidecar.note is not None:
        yield sidecar.note
    if GENERAL in transform.source:
        remedy = f"metadata_props or {sidecar_of(file.path).name} beside it may say it"
        yield f"how images are prepared is not all said by the file ({transform.source}); {remedy}"


def _declared(file: OnnxFile) -> dict[str, Any]:
    """The input's size, where the graph fixes it."""
    _, *sides = input_sides(file)
    channels_last = sides[0] not in (1, 3) and sides[2] in (1, 3)
    channels, height, width = (sides[2], sides[0], sides[1]) if channels_last else sides
    return {"input_size": (channels or 3, height, width)} if height and width else {}


def _read_settings(file: OnnxFile) -> dict[str, Any]:
    """The known ``metadata_props``; values are JSON, Python literals, or lists with commas."""
    given = {entry.key: entry.value for entry in file.proto.metadata_props}
    known = {key: value for key, value in given.items() if key in ALSO_KNOWN}
    texts = {key: value for key, value in known.items() if isinstance(value, str)}  # bytes where they are no UTF-8
    settings = {key: _parse(value) for key, value in texts.items() if len(value) <= LARGEST_SETTING}
    if _declared(file):
        settings.pop("input_size", None)  # the graph takes no other
    return settings


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)  # literals only: nothing is run
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        parts = [part.strip() for part in text.split(",")]
        return parts if len(parts) > 1 else text
