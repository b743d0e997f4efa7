"""ONNX files read whole: the graph, and weights kept beside it, never from outside the model's folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from salve_audit.errors import CheckpointError
from salve_audit.inputs.digest import hash_stream
from salve_audit.inputs.reasons import summarise_error

INSTALL_HINT = "pip install salve-audit[onnx]"
LARGEST = (1 << 31) - 1  # bytes of one protobuf message, and with it of what the runtime is given


@dataclass(frozen=True)
class OnnxFile:
    """A model as onnx's own ModelProto with all weights inside, and the hash of every file it came from."""

    path: Path
    sha256: str
    proto: Any


def read_onnx(path: Path) -> OnnxFile:
    """The model in `path`.

    Raises:
        CheckpointError: onnx is not installed, the file is missing or damaged, or its weights are elsewhere than in
            the model's own folder.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401  both or nothing
    except ImportError as error:
        why = f"ONNX files need the packages onnx and onnxruntime (no {error.name})"
        raise CheckpointError(str(path), why, hint=INSTALL_HINT) from error
    digest = hashlib.sha256(_read_bytes(path))
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises whatever the bytes lead it into
        raise CheckpointError(str(path), f"is damaged or no ONNX file ({summarise_error(error)})") from error
    if not _names_are_text(proto.graph):
        raise CheckpointError(str(path), "is damaged or no ONNX file (a name that is no UTF-8)")
    if not proto.graph.output:
        raise CheckpointError(str(path), "is damaged or no ONNX file (a graph without outputs)")
    files = sorted({_find_external(path, tensor) for tensor in _external_tensors(proto)})
    for file in files:
        digest.update(_hash(path, file).encode())
    if sum(file.stat().st_size for file in files) + path.stat().st_size > LARGEST:
        raise CheckpointError(str(path), "has over 2 GiB of weights, more than one ONNX message can hold")
    if files:
        try:
            onnx.load_external_data_for_model(proto, str(path.parent))
        except Exception as error:  # offsets and lengths are the file's own
            raise CheckpointError(str(path), f"its external weights do not fit ({summarise_error(error)})") from error
    return OnnxFile(path, digest.hexdigest(), proto)


def _names_are_text(graph: Any) -> bool:
    """True where all names are text: protobuf hands bytes that are no UTF-8 out as bytes, or fails on their use."""
    try:
        names = [name for node in graph.node for name in (node.name, node.op_type, *node.input, *node.output)]
        names += [value.name for value in (*graph.initializer, *graph.input, *graph.output)]
    except UnicodeDecodeError:
        return False
    return all(isinstance(name, str) for name in names)


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise CheckpointError(str(path), "is a folder, expected an ONNX file")
    try:
        if path.exists() and not path.is_file():
            raise CheckpointError(str(path), "is neither a file nor a folder")
        content = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(str(path), "no such file") from None
    except OSError as error:
        raise CheckpointError(str(path), f"cannot be read ({error.strerror})") from error
    if not content:
        raise CheckpointError(str(path), "the file is empty")
    return content


def _external_tensors(message: Any) -> Iterator[Any]:
    """Every tensor in the message, however deep, that says its values lie in another file."""
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        for part in value if descriptor.is_repeated else (value,):
            if descriptor.message_type.name == "TensorProto" and len(part.external_data):
                yield part
            yield from _external_tensors(part)


def _find_external(path: Path, tensor: Any) -> Path:
    """The file of an external tensor, refused unless it is a plain file in the model's folder."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    folder = path.parent.resolve()
    parts = PurePosixPath(location.replace("\\", "/"))
    file = folder / parts
    if not location or "\0" in location or parts.is_absolute() or ":" in location or ".." in parts.parts:
        raise CheckpointError(str(path), f"its weights lie outside its folder ({location!r}); refused")
    if not file.resolve().is_relative_to(folder):
        raise CheckpointError(str(path), f"its weights lie behind a link out of its folder ({location!r}); refused")
    if not file.is_file():
        raise CheckpointError(str(path), f"its external weights {location!r} are missing", hint="copy that file too")
    return file


def _hash(path: Path, file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hash_stream(stream)
    except OSError as error:
        raise CheckpointError(str(path), f"{file.name} cannot be read ({error.strerror})") from error
