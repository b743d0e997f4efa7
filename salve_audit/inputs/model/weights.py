"""A checkpoint file or folder read without running any code in it: tensors, settings and what it calls itself."""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from salve_audit.errors import CheckpointError
from salve_audit.inputs.digest import hash_stream
from salve_audit.inputs.foreign import HEAD_BYTES, describe_foreign_model
from salve_audit.inputs.labels.class_names import NamedClasses, find_class_names, find_other_lists
from salve_audit.inputs.model.config_tree import find_arch, find_settings
from salve_audit.inputs.model.formats.hub import CONFIG, WEIGHT_FILES, Hub, find_weight_files, read_hub
from salve_audit.inputs.model.formats.left_out import LeftOut, load_around_objects
from salve_audit.inputs.model.formats.nesting import Weights, choose_weights, find_weights
from salve_audit.inputs.model.formats.sidecar import Sidecar, read_name_files, read_sidecar
from salve_audit.inputs.model.formats.sniff import FileKind, sniff
from salve_audit.inputs.model.formats.torch_file import (
    RESAVE_HINT,
    as_mapping,
    load_safetensors,
    load_torch_file,
    load_trusted_file,
    refuse_code,
)
from salve_audit.inputs.model.origins import HUGGING_FACE, TIMM, UNKNOWN, Origin, find_origin
from salve_audit.inputs.model.settings import as_args, translate_settings

MAX_SPARE, MAX_TIMES = 256 << 20, 4  # bytes of tensors beyond the file's own, and times these


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint.

    Attributes:
        path, sha256: the file; of a folder, the folder and the hash of its weights.
        format: in words, for the report.
        weights: the places with weights, the one to take first; empty for a whole network.
        arch: the architecture that the file names, or None.
        args: its settings (num_classes, img_size, mean, ...), empty where it has none.
        places: where the settings of the transform stand, in words: ``args.val_crop_size``.
        conflicts: where else in the file some of them are others.
        origin: the training script that wrote it, with its conventions.
        conventions: the transform of that script, where the file does not say another.
        named: its lists of class names in output order, the likeliest first.
        lists: other lists of texts in it and beside it, which may be class names.
        config: a Hugging Face or timm folder's config.json.
        is_flipped: its images are given to the network with blue first.
        sidecar: what a JSON file of the same name beside it says.
        kind: of file.
        module: the whole network that the file held, after ``--trust-model``.
        trusted: code of the file was run to read it.
        left_out: classes of the objects beside the weights that were not read.
    """

    path: Path
    sha256: str
    format: str
    weights: tuple[Weights, ...]
    arch: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    conflicts: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = UNKNOWN
    conventions: Mapping[str, Any] = field(default_factory=dict)
    named: tuple[NamedClasses, ...] = ()
    lists: tuple[NamedClasses, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    is_flipped: bool = False
    sidecar: Sidecar = field(default_factory=Sidecar)
    kind: FileKind = FileKind.ZIPPED
    module: nn.Module | None = None
    trusted: bool = False
    left_out: tuple[str, ...] = ()

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
    for file in files:
        _refuse_foreign(file)
    kind = sniff(files[0])
    if kind is FileKind.HDF5:
        raise CheckpointError(str(place), "is a Keras or HDF5 file, expected one of PyTorch", hint=RESAVE_HINT)
    if kind in (FileKind.TORCHSCRIPT, FileKind.EXPORTED):
        if not trust:
            raise refuse_code(place, kind.value)
        return Checkpoint(place, sha256, kind.value, (), kind=kind, trusted=True)
    content, trusted, left_out = _load(files, kind, trust)
    if _hash_files(files) != sha256:
        raise CheckpointError(str(place), "changed while it was read", hint="wait until it is written, then try again")
    checkpoint = Checkpoint(place, sha256, "", (), kind=kind, trusted=trusted, left_out=left_out)
    checkpoint = _sort_out(checkpoint, content, weights)
    _check_size(checkpoint, sum(file.stat().st_size for file in files))
    return _add_sidecar(_add_hub(checkpoint, hub, is_folder=files != (place,)))


def _refuse_foreign(file: Path) -> None:
    """Raises for a file that stands for another one, or that is of a known kind which holds no weights."""
    with file.open("rb") as stream:
        foreign = describe_foreign_model(stream.read(HEAD_BYTES))
    if foreign is not None:
        raise CheckpointError(str(file), foreign.what, hint=foreign.remedy)


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


def _load(files: tuple[Path, ...], kind: FileKind, trust: bool) -> tuple[Any, bool, tuple[str, ...]]:
    """The joint contents of the files, whether code was run to read them, and the classes that were left out."""
    content: Any = None
    trusted, left_out = False, dict[str, None]()
    for file in files:
        if kind is FileKind.SAFETENSORS:
            part: Any = load_safetensors(file)
        else:
            try:
                part = load_torch_file(file, kind)
            except CheckpointError:
                if trust:
                    part, trusted = load_trusted_file(file, kind), True
                else:
                    around = _load_weights_alone(file, kind)
                    if around is None:
                        raise
                    part = around[0]
                    left_out |= dict.fromkeys(around[1])
        content = {**content, **as_mapping(file, part)} if content is not None else part
    return content, trusted, tuple(left_out)


def _load_weights_alone(file: Path, kind: FileKind) -> tuple[Mapping[Any, Any], tuple[str, ...]] | None:
    """The contents without the objects that would need code; None where no weights are left so."""
    try:
        content, left_out = load_around_objects(file, kind)
        has_weights = isinstance(content, Mapping) and not isinstance(content, LeftOut)
        return (content, left_out) if has_weights and find_weights(str(file), content) else None
    except Exception:  # damaged, or refused; the error of torch's own reading says it
        return None


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
    settings, beside = find_settings(outer), _open_sections(outer)
    args = settings.args
    named = outer.get("arch") or args.get("model")
    arch = named if isinstance(named, str) else find_arch(outer)
    origin = find_origin(outer, args)
    return replace(
        checkpoint,
        format=_name_format(checkpoint.kind, outer, args, origin),
        weights=places,
        arch=arch,
        args=args,
        places=settings.places,
        conflicts=settings.conflicts,
        origin=origin,
        conventions=_prepare(checkpoint.path, origin, outer, args),
        named=find_class_names(beside),
        lists=find_other_lists(beside),
    )


def _prepare(path: Path, origin: Origin, outer: Mapping[Any, Any], args: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return origin.prepare(outer, args)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(str(path), f"its settings make no transform: {error}") from error


def _find_module(content: Any) -> nn.Module | None:
    """The network that is pickled whole, alone or in a dictionary."""
    if isinstance(content, nn.Module):
        return content
    values = content.values() if isinstance(content, Mapping) else ()
    return next((value for value in values if isinstance(value, nn.Module)), None)


def _name_format(kind: FileKind, outer: Mapping[Any, Any], args: Mapping[str, Any], origin: Origin) -> str:
    """What the file is, in words; timm's has three marks, of which others have but some."""
    if kind is FileKind.SAFETENSORS:
        return "safetensors"
    if "pytorch-lightning_version" in outer:
        return "Lightning checkpoint"
    arch = outer.get("arch")
    is_laid_out = "state_dict" in outer and isinstance(arch, str) and args.get("model") == arch
    if origin is TIMM or (origin is UNKNOWN and is_laid_out):
        return "timm checkpoint"
    if origin is not UNKNOWN:
        return f"checkpoint of {origin.label}"
    return "state_dict in a dictionary" if outer else "bare state_dict"


def _open_sections(outer: Mapping[Any, Any]) -> dict[str, Any]:
    """All beside the weights; a namespace becomes a dictionary."""
    return {
        key: as_args(value) if isinstance(value, argparse.Namespace) else value
        for key, value in outer.items()
        if isinstance(key, str) and not isinstance(value, torch.Tensor)
    }


def _add_hub(checkpoint: Checkpoint, hub: Hub | None, is_folder: bool) -> Checkpoint:
    """`checkpoint` with what its folder's configuration says, where it does not say it itself."""
    if hub is None:
        return checkpoint
    inner = "safetensors" if checkpoint.kind is FileKind.SAFETENSORS else checkpoint.format
    origin = checkpoint.origin
    if origin is UNKNOWN:
        origin = TIMM if hub.arch is not None else HUGGING_FACE if "model_type" in hub.config else UNKNOWN
    listed = () if hub.class_names is None else (NamedClasses("config.json", hub.class_names),)
    settings = translate_settings(hub.args, hub.files)
    return replace(
        checkpoint,
        format=f"{hub.label} ({inner})" if is_folder else f"{inner} in a {hub.label}",
        arch=checkpoint.arch or hub.arch,
        args={**settings.args, **checkpoint.args},
        places={**settings.places, **hub.places, **checkpoint.places},
        is_flipped=hub.is_flipped,
        origin=origin,
        conventions=checkpoint.conventions or origin.prepare({}, {}),
        named=(*checkpoint.named, *listed),
        config=hub.config,
    )


def _add_sidecar(checkpoint: Checkpoint) -> Checkpoint:
    """`checkpoint` with what the file beside it says; a whole network's is read where it is loaded."""
    if checkpoint.module is not None:
        return checkpoint
    beside = read_sidecar(checkpoint.path)
    listed = () if beside.class_names is None else (NamedClasses(beside.name, beside.class_names),)
    lists = (*checkpoint.lists, *read_name_files(checkpoint.path))
    return replace(checkpoint, sidecar=beside, named=(*listed, *checkpoint.named), lists=lists)
