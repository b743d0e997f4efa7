"""The checkpoint as it is in its files: everything in them, and where in them the tensors of the head are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.formats.hub import CONFIG, WEIGHT_FILES, find_weight_files
from salve_audit.inputs.model.formats.nesting import choose_weights, find_weights
from salve_audit.inputs.model.formats.sniff import FileKind, sniff
from salve_audit.inputs.model.formats.torch_file import as_mapping, load_safetensors, load_torch_file, load_trusted_file
from salve_audit.inputs.model.identify import identify
from salve_audit.inputs.model.onnx.loading import is_onnx
from salve_audit.inputs.model.weights import Checkpoint

RESAVE_HINT = "an edit needs a state_dict: torch.save(model.state_dict(), PATH), or safetensors"
DEEPEST = 10
WRITABLE = (FileKind.SAFETENSORS, FileKind.ZIPPED, FileKind.PICKLE)


@dataclass(frozen=True)
class Place:
    """The place of a tensor: file, dictionary within it, and name."""

    file: Path
    keys: tuple[str, ...]
    name: str

    def describe(self) -> str:
        """The place as a dotted path."""
        return ".".join((*self.keys, self.name))


@dataclass(frozen=True)
class Source:
    """An open checkpoint.

    Attributes:
        path: the file or folder.
        kind: of its files.
        contents: by file, all that is in it.
        state: the weights that the network takes, under the network's names.
        weights_key: where they are in the file; empty: the file is the state_dict itself.
        others: dotted paths of further weights, which an edit leaves as they are.
    """

    path: Path
    kind: FileKind
    contents: Mapping[Path, Mapping[Any, Any]]
    state: Mapping[str, Tensor]
    weights_key: str
    others: tuple[str, ...]

    def list_tensors(self) -> dict[str, Tensor]:
        """All tensors of the files, optimiser state and averages included, by dotted path."""
        return {
            ".".join((*keys, name)): tensor
            for content in self.contents.values()
            for keys, name, tensor in _walk(content, ())
        }

    def find(self, name: str) -> Place:
        """The place of the network's parameter `name`.

        Raises:
            CheckpointError: it is no tensor of the file, or under several names there.
        """
        tensor = self.state.get(name)
        hits = [
            Place(file, keys, key)
            for file, content in self.contents.items()
            for keys, key, value in _walk(content, ())
            if value is tensor and _is_within(keys, self.weights_key)
        ]
        if tensor is None or not hits:
            why = f"its {name!r} is computed from other tensors and not in the file as such"
            raise CheckpointError(str(self.path), why, hint="fold weight normalisation and adapters in first")
        if len(hits) > 1:
            names = ", ".join(repr(tensor_place.describe()) for tensor_place in hits[:3])
            raise CheckpointError(str(self.path), f"its {name!r} has several names ({names}); other parts share it")
        return hits[0]


def check_editable(path: Path) -> None:
    """Checks that the weights of a file or folder can be written again.

    Raises:
        CheckpointError: it is a program, or a part of a folder that only works whole.
    """
    if is_onnx(path):
        raise CheckpointError(
            str(path), "is an ONNX graph, which is not edited", hint="edit the checkpoint it came from"
        )
    if not path.exists():
        raise CheckpointError(str(path), "no such file")
    files = find_weight_files(path) if path.is_dir() else (path,)
    kind = sniff(files[0])
    if kind not in WRITABLE:
        raise CheckpointError(str(path), f"is a {kind.value}, which is not edited", hint=RESAVE_HINT)
    if path.name in WEIGHT_FILES and path.parent != path and (path.parent / CONFIG).is_file():
        why = f"is a part of the folder {path.parent}, whose {CONFIG} belongs to it"
        raise CheckpointError(str(path), why, hint=f"edit the folder: salve-audit edit {path.parent} ... -o FOLDER")


def open_source(checkpoint: Checkpoint, arch: str | None, weights: str | None) -> Source:
    """Everything in the files of a checkpoint that has been read.

    Raises:
        CheckpointError: it holds no state_dict.
    """
    path = checkpoint.path
    if not checkpoint.weights:
        raise CheckpointError(str(path), f"is a {checkpoint.format}, which is not edited", hint=RESAVE_HINT)
    files = find_weight_files(path) if path.is_dir() else (path,)
    contents = {file: _load(file, checkpoint) for file in files}
    merged = {key: value for content in contents.values() for key, value in content.items()}
    places = find_weights(str(path), merged)
    chosen = places if weights is None else choose_weights(str(path), places, weights)
    description = identify(dataclasses.replace(checkpoint, weights=chosen), arch)
    others = tuple(
        tensor_place.key or "the top level"
        for tensor_place in places
        if not _belongs(description.weights_key, tensor_place.key)
    )
    return Source(path, checkpoint.kind, contents, description.state, description.weights_key, others)


def _load(file: Path, checkpoint: Checkpoint) -> Mapping[Any, Any]:
    if checkpoint.kind is FileKind.SAFETENSORS:
        return load_safetensors(file)
    load = load_trusted_file if checkpoint.trusted else load_torch_file
    return as_mapping(file, load(file, checkpoint.kind))


def _walk(content: Mapping[Any, Any], keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, Tensor]]:
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield keys, str(key), value
        elif isinstance(value, Mapping) and len(keys) < DEEPEST:
            yield from _walk(value, (*keys, str(key)))


def _is_within(keys: tuple[str, ...], weights_key: str) -> bool:
    """True for the weights at `weights_key`, which may go on into the tensors' names."""
    return _belongs(weights_key, ".".join(keys))


def _belongs(weights_key: str, place: str) -> bool:
    return place in ("", weights_key) or weights_key.startswith(f"{place}.")
