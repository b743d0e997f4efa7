"""A checkpoint file or folder read without running any code in it: tensors, settings and what it calls itself."""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from salve_audit.errors import CheckpointError
from salve_audit.inputs.digest import hash_stream
from salve_audit.inputs.model.formats.hub import CONFIG, WEIGHT_FILES, Hub, find_weight_files, read_hub
from salve_audit.inputs.model.formats.nesting import Weights, choose_weights, find_weights
from salve_audit.inputs.model.formats.sidecar import Sidecar, read_sidecar
from salve_audit.inputs.model.formats.sniff import FileKind, sniff
from salve_audit.inputs.model.formats.torch_file import (
    RESAVE_HINT,
    as_mapping,
    load_safetensors,
    load_torch_file,
    load_trusted_file,
    refuse_code,
)
from salve_audit.results.transform import TRANSFORM_FIELDS

CLASS_KEYS = ("class_names", "classes", "class_to_idx")
# where training scripts other than timm's keep what they were called with (Lightning: hyper_parameters)
SETTINGS_KEYS = ("hyper_parameters", "hparams", "config", "cfg")
ARCH_KEYS = ("arch", "architecture", "model", "model_name", "backbone", "encoder", "net")
MAX_SPARE, MAX_TIMES = 256 << 20, 4  # bytes of tensors beyond the file's own, and times these
SETTINGS = (*TRANSFORM_FIELDS, "img_size", "in_chans")


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint.

    Attributes:
        path, sha256: the file; of a folder, the folder and the hash of its weights.
        format: in words, for the report.
        weights: the places with weights, the one to take first; empty for a whole network.
        arch: the architecture that the file names, or None.
        args: its settings (num_classes, img_size, mean, ...), empty where it has none.
        class_names: its label names in output order, or None.
        config: a Hugging Face or timm folder's config.json.
        sidecar: what a JSON file of the same name beside it says.
        kind: of file.
        module: the whole network that the file held, after ``--trust-model``.
        trusted: code of the file was run to read it.
    """

    path: Path
    sha256: str
    format: str
    weights: tuple[Weights, ...]
    arch: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    sidecar: Sidecar = field(default_factory=Sidecar)
    kind: FileKind = FileKind.ZIPPED
    module: nn.Module | None = None
    trusted: bool = False

    @property
    def state(self) -> Mapping[str, torch.Tensor]:
        """The weights to take first: names to tensors, as in the file."""
        return self.weights[0].state if self.weights else {}


def read_checkpoint(path: str | Path, weights: str | None = None, trust: bool = False) -> Checkpoint:
    """Reads `path` without running code of it, and sorts out what is in it.

    Args:
        path: a file, or a folder with config.json and weights.
        weights: dotted path of the state_dict to take, where the file has several.
        trust: let the file run code, if it cannot be read otherwise.

    Raises:
        CheckpointError: no such file, not a checkpoint, nothing at `weights`, or it needs code to be read.
    """
    place = Path(path)
    files: tuple[Path, ...] = (place,)
    hub: Hub | None
    if os.path.isdir(place):  # unlike Path.is_dir, no exception where access is denied
        files, hub = find_weight_files(place), read_hub(place)
    else:
        hub = _hub_beside(place)
    sha256 = _hash_files(files)
    kind = sniff(files[0])
    if kind is FileKind.HDF5:
        raise CheckpointError(str(place), "is a Keras or HDF5 file, expected one of PyTorch", hint=RESAVE_HINT)
    if kind in (FileKind.TORCHSCRIPT, FileKind.EXPORTED):
        if not trust:
            raise refuse_code(place, kind.value)
        return Checkpoint(place, sha256, kind.value, (), kind=kind, trusted=True)
    content, trusted = _load(files, kind, trust)
    if _hash_files(files) != sha256:
        raise CheckpointError(str(place), "changed while it was read", hint="wait until it is written, then try again")
    checkpoint = _sort_out(Checkpoint(place, sha256, "", (), kind=kind, trusted=trusted), content, weights)
    _check_size(checkpoint, sum(file.stat().st_size for file in files))
    return _add_sidecar(_add_hub(checkpoint, hub, is_folder=files != (place,)))


def _check_size(checkpoint: Checkpoint, n_bytes: int) -> None:
    """Refuses too large tensors: views that repeat a few numbers can claim any size."""
    for place in checkpoint.weights:
        claimed = sum(value.numel() * value.element_size() for value in place.state.values())
        if claimed > MAX_SPARE + MAX_TIMES * n_bytes:
            why = f"its tensors say they take {claimed:,} bytes, but the file has {n_bytes:,}; refused"
            raise CheckpointError(str(checkpoint.path), why)


def _hub_beside(file: Path) -> Hub | None:
    """The configuration beside a file that is named as the weights in such a folder."""
    is_named_so = file.name in WEIGHT_FILES and (file.parent / CONFIG).is_file()
    return read_hub(file.parent) if is_named_so else None


def _hash_files(files: tuple[Path, ...]) -> str:
    digests = [_hash_file(file) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _hash_file(file: Path) -> str:
    try:
        if file.exists() and not file.is_file():
            raise CheckpointError(str(file), "is neither a file nor a folder")
        with file.open("rb") as stream:
            sha256 = hash_stream(stream)
            if stream.tell() == 0:
                raise CheckpointError(str(file), "the file is empty")
    except FileNotFoundError:
        raise CheckpointError(str(file), "no such file") from None
    except OSError as error:
        raise CheckpointError(str(file), f"cannot be read ({error.strerror})") from error
    return sha256


def _load(files: tuple[Path, ...], kind: FileKind, trust: bool) -> tuple[Any, bool]:
    """The joint contents of the files, and whether code was run to read them."""
    content: Any = None
    trusted = False
    for file in files:
        if kind is FileKind.SAFETENSORS:
            part: Any = load_safetensors(file)
        else:
            try:
                part = load_torch_file(file, kind)
            except CheckpointError:
                if not trust:
                    raise
                part, trusted = load_trusted_file(file, kind), True
        content = {**content, **as_mapping(file, part)} if content is not None else part
    return content, trusted


def _sort_out(checkpoint: Checkpoint, content: Any, key: str | None) -> Checkpoint:
    """`checkpoint` with weights, settings, names and format of `content`."""
    module = _find_module(content)
    if module is not None:
        return replace(checkpoint, format="whole pickled network", module=module)
    path = checkpoint.path
    content = as_mapping(path, content)
    places = find_weights(str(path), content)
    if not places:
        keys = ", ".join(str(key) for key in list(content)[:5]) or "none"
        raise CheckpointError(str(path), f"no state_dict inside, the keys are: {keys}", hint=RESAVE_HINT)
    if key is not None:
        places = choose_weights(str(path), places, key)
    outer = content if places[0].key else {}
    args = _find_args(outer)
    named = outer.get("arch") or args.get("model")
    arch = named if isinstance(named, str) else _find_arch(outer)
    return replace(
        checkpoint,
        format=_name_format(checkpoint.kind, outer, arch),
        weights=places,
        arch=arch,
        args=args,
        class_names=_find_class_names(outer, args),
    )


def _find_module(content: Any) -> nn.Module | None:
    """The network that is pickled whole, alone or in a dictionary."""
    if isinstance(content, nn.Module):
        return content
    values = content.values() if isinstance(content, Mapping) else ()
    return next((value for value in values if isinstance(value, nn.Module)), None)


def _name_format(kind: FileKind, outer: Mapping[Any, Any], arch: str | None) -> str:
    if kind is FileKind.SAFETENSORS:
        return "safetensors"
    if "pytorch-lightning_version" in outer:
        return "Lightning checkpoint"
    return "timm checkpoint" if outer and arch else "state_dict in a dictionary" if outer else "bare state_dict"


def _find_args(outer: Mapping[Any, Any]) -> dict[str, Any]:
    """``args``, over what other scripts' settings say of the images."""
    settings: dict[str, Any] = {}
    for key in SETTINGS_KEYS:
        given = _as_args(outer.get(key))
        settings.update({name: given[name] for name in (*SETTINGS, *CLASS_KEYS) if _is_plain(given.get(name))})
    return {**settings, **_as_args(outer.get("args"))}


def _is_plain(value: Any) -> bool:
    values = value if isinstance(value, (list, tuple)) and value else [value]
    return isinstance(value, Mapping) or all(isinstance(item, (int, float, str)) for item in values)


def _find_arch(outer: Mapping[Any, Any]) -> str | None:
    """A timm name in settings that are not timm's own; other words there may mean anything."""
    for key in SETTINGS_KEYS:
        settings = _as_args(outer.get(key))
        for name in ARCH_KEYS:
            value = settings.get(name)
            if isinstance(value, str) and timm.is_model(value):
                return value
    return None


def _as_args(args: Any) -> dict[str, Any]:
    if isinstance(args, argparse.Namespace):
        return dict(vars(args))
    return {str(key): value for key, value in args.items()} if isinstance(args, Mapping) else {}


def _find_class_names(outer: Mapping[Any, Any], args: Mapping[str, Any]) -> tuple[str, ...] | None:
    for holder in (outer, args):
        for key in CLASS_KEYS:
            names: Any = holder.get(key)
            if isinstance(names, Mapping) and sorted(names.values(), key=str) == sorted(range(len(names)), key=str):
                names = sorted(names, key=lambda name: names[name])
            if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
                return tuple(names)
    return None


def _add_hub(checkpoint: Checkpoint, hub: Hub | None, is_folder: bool) -> Checkpoint:
    """`checkpoint` with what its folder's configuration says, where it does not say it itself."""
    if hub is None:
        return checkpoint
    inner = "safetensors" if checkpoint.kind is FileKind.SAFETENSORS else checkpoint.format
    return replace(
        checkpoint,
        format=f"{hub.label} ({inner})" if is_folder else f"{inner} in a {hub.label}",
        arch=checkpoint.arch or hub.arch,
        args={**hub.args, **checkpoint.args},
        class_names=checkpoint.class_names or hub.class_names,
        config=hub.config,
    )


def _add_sidecar(checkpoint: Checkpoint) -> Checkpoint:
    """`checkpoint` with what the file beside it says; a whole network's is read where it is loaded."""
    if checkpoint.module is not None:
        return checkpoint
    beside = read_sidecar(checkpoint.path)
    return replace(checkpoint, sidecar=beside, class_names=beside.class_names or checkpoint.class_names)
