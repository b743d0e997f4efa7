"""The checkpoint written again: the same format, nesting, names and types, other numbers in the head alone."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from salve_audit.edit.record import RECORD_KEY, RECORD_SUFFIX, as_text
from salve_audit.edit.source import Place, Source
from salve_audit.errors import CheckpointError, OutputError, UsageError
from salve_audit.inputs.model.formats.hub import SHARDED, SUFFIXES, read_json
from salve_audit.inputs.model.formats.sidecar import sidecar_of
from salve_audit.inputs.model.formats.sniff import FileKind

OTHER_WEIGHTS = (*SUFFIXES, ".ckpt", ".th", ".h5", ".msgpack", ".onnx", ".gguf", ".data")
BLOCK = 1 << 24  # bytes copied at a time
Record = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """A tensor of the file and what takes its place: the same type, shape and strides."""

    place: Place
    tensor: Tensor


def change_tensor(source: Source, name: str, values: np.ndarray) -> Change:
    """`values` rounded to the type that the network's parameter `name` has in the file.

    Raises:
        CheckpointError: it is no tensor of the file.
        UsageError: a value is too large for that type.
    """
    place, old = source.find(name), source.state[name]
    new = torch.empty_like(old, requires_grad=False)
    new.copy_(torch.from_numpy(np.ascontiguousarray(values)).reshape(old.shape))
    if not bool(torch.isfinite(new).all()):
        kind = str(old.dtype).removeprefix("torch.")
        raise UsageError("strength", f"makes {place.describe()} larger than {kind} can hold")
    is_parameter = isinstance(old, nn.Parameter)
    return Change(
        place, nn.Parameter(new, old.requires_grad) if is_parameter else new.requires_grad_(old.requires_grad)
    )


def apply_changes(source: Source, changes: Sequence[Change]) -> Source:
    """The source with the new tensors; the dictionaries that hold them are copies, all else is shared."""
    contents = dict(source.contents)
    for change in changes:
        file = change.place.file
        contents[file] = _with(contents[file], change.place.keys, change.place.name, change.tensor)
    return dataclasses.replace(source, contents=contents)


def _with(content: Mapping[Any, Any], keys: tuple[str, ...], name: str, tensor: Tensor) -> Any:
    changed: Any = _copy(content)
    changed[keys[0] if keys else name] = _with(content[keys[0]], keys[1:], name, tensor) if keys else tensor
    return changed


def _copy(content: Mapping[Any, Any]) -> Any:
    """A shallow copy with what a state_dict carries as an attribute (``_metadata``: versions of its layers)."""
    made: Any = content.copy() if hasattr(content, "copy") else dict(content)
    if hasattr(content, "__dict__"):
        made.__dict__.update(content.__dict__)
    return made


def read_earlier(source: Source, change: Change) -> Any:
    """The record of an earlier edit of this checkpoint, or None."""
    file, keys = change.place.file, change.place.keys
    if source.kind is FileKind.SAFETENSORS:
        text = _read_header(file)[0].get("__metadata__", {}).get(RECORD_KEY)
        return None if text is None else _parse(text)
    if keys:
        return source.contents[file].get(RECORD_KEY)
    return read_json(file.with_name(file.name + RECORD_SUFFIX)) or None


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # whoever wrote that, it stays as it is
        return text


def write_checkpoint(source: Source, changes: Sequence[Change], record: Record, target: Path) -> None:
    """Writes the edited checkpoint to `target`: a file, or a folder that exists.

    Args:
        source: as it was read, unchanged.
        changes: of the head.
        record: of the edit; goes into the file where there is room for it, else beside it.
        target: in a folder of its own, so that what lies beside it is this edit's too.

    Raises:
        OutputError: the disk is full or the like.
        CheckpointError: what a trusted file holds cannot be written again.
    """
    places = {source.path: target}
    if source.path.is_dir():
        _copy_others(source, target)
        places = {file: target / file.name for file in source.contents}
    elif sidecar_of(source.path).is_file() and sidecar_of(source.path) != source.path:
        shutil.copyfile(sidecar_of(source.path), sidecar_of(target))
    for file, written in places.items():
        own = [change for change in changes if change.place.file == file]
        if not own:
            shutil.copyfile(file, written)
        elif source.kind is FileKind.SAFETENSORS:
            _patch_safetensors(file, own, record, written)
        else:
            _save_torch(source, own, record, written)


def list_left_out(source: Source) -> tuple[str, ...]:
    """Names in a folder that an edited copy of it does not get: other weights, which the edit would not be in."""
    if not source.path.is_dir():
        return ()
    return tuple(
        sorted(
            entry.name for entry in source.path.iterdir() if entry not in source.contents and _is_other(source, entry)
        )
    )


def _copy_others(source: Source, target: Path) -> None:
    for entry in source.path.iterdir():
        if entry not in source.contents and not _is_other(source, entry):
            shutil.copyfile(entry, target / entry.name)


def _is_other(source: Source, entry: Path) -> bool:
    index = next((name for name in SHARDED if (source.path / name).is_file()), None)
    stale_index = entry.name in SHARDED and (len(source.contents) == 1 or entry.name != index)
    return not entry.is_file() or entry.name.startswith(".") or entry.suffix in OTHER_WEIGHTS or stale_index


def _save_torch(source: Source, changes: Sequence[Change], record: Record, written: Path) -> None:
    file = changes[0].place.file
    content: Any = apply_changes(source, changes).contents[file]
    if all(change.place.keys for change in changes):
        content = _copy(content)
        content[RECORD_KEY] = record  # plain values: torch.load(weights_only=True) reads them
    else:  # the state_dict itself: load_state_dict would refuse another key
        text = json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        written.with_name(written.name + RECORD_SUFFIX).write_text(text, encoding="utf-8")
    try:
        with written.open("wb") as stream:
            torch.save(content, stream, _use_new_zipfile_serialization=source.kind is FileKind.ZIPPED)
    except RuntimeError as error:  # torch's own way to say that the disk is full
        raise OutputError(str(written.name), f"cannot be written ({error})") from error
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise CheckpointError(str(file), f"holds what cannot be written again ({error})") from error


def _read_header(file: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where its data begin."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header: dict[str, Any] = json.loads(stream.read(length))
    return header, 8 + length


def _patch_safetensors(file: Path, changes: Sequence[Change], record: Record, written: Path) -> None:
    """A copy with other bytes where the head's tensors are, and one more entry in the header's metadata."""
    header, start = _read_header(file)
    header["__metadata__"] = {**header.get("__metadata__", {}), RECORD_KEY: as_text(record)}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # keeps the tensors aligned, as the format asks
    with file.open("rb") as reading, written.open("wb") as writing:
        writing.write(struct.pack("<Q", len(text)) + text)
        reading.seek(start)
        shutil.copyfileobj(reading, writing, BLOCK)
        for change in changes:
            first, last = header[change.place.name]["data_offsets"]
            data = change.tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            assert len(data) == last - first, f"{change.place.name} has {last - first} bytes, not {len(data)}"
            writing.seek(8 + len(text) + first)
            writing.write(data)
