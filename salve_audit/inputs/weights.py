"""A checkpoint file read without running any code in it: tensors, settings and what the file calls itself."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from salve_audit.errors import CheckpointError

STATE_KEYS = ("state_dict", "model_state_dict", "model")
CLASS_KEYS = ("class_names", "classes", "class_to_idx")
RESAVE_HINT = "save it again as {'arch': NAME, 'state_dict': model.state_dict(), 'args': {...}} with plain values"
ZIP_MAGIC = b"PK\x03\x04"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds; nothing of it has been run.

    Attributes:
        path, sha256: the file.
        format: in words, for the report.
        state: parameter and buffer names to tensors, as in the file.
        arch: the architecture the file names, or None.
        args: its settings (num_classes, img_size, mean, ...), empty where it has none.
        class_names: its label names in output order, or None.
    """

    path: Path
    sha256: str
    format: str
    state: Mapping[str, torch.Tensor]
    arch: str | None
    args: Mapping[str, Any]
    class_names: tuple[str, ...] | None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Reads `path` with ``torch.load(weights_only=True)`` and sorts out what is in it.

    Raises:
        CheckpointError: no such file, a folder, not a checkpoint, or one that needs code to be read.
    """
    file = Path(path)
    sha256 = _hash_file(file)
    content = _load(file)
    if not isinstance(content, Mapping):
        raise CheckpointError(str(file), f"holds one {type(content).__name__}, expected a state_dict", hint=RESAVE_HINT)
    state, outer = _find_state(file, content)
    args = _as_args(outer.get("args"))
    arch = outer.get("arch") or args.get("model")
    kind = "timm checkpoint" if outer and arch else "state_dict in a dictionary" if outer else "bare state_dict"
    return Checkpoint(
        path=file,
        sha256=sha256,
        format=kind,
        state=state,
        arch=arch if isinstance(arch, str) else None,
        args=args,
        class_names=_find_class_names(outer, args),
    )


def _hash_file(file: Path) -> str:
    if os.path.isdir(file):  # unlike Path.is_dir, no exception where access is denied
        raise CheckpointError(str(file), "is a folder, expected a checkpoint file")
    try:
        with file.open("rb") as stream:
            digest = hashlib.sha256()
            while block := stream.read(1 << 20):
                digest.update(block)
            if stream.tell() == 0:
                raise CheckpointError(str(file), "the file is empty")
    except FileNotFoundError:
        raise CheckpointError(str(file), "no such file") from None
    except OSError as error:
        raise CheckpointError(str(file), f"cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def _load(file: Path) -> Any:
    with file.open("rb") as stream:
        zipped = stream.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    try:
        # the warnings concern foreign pickles and TorchScript; both end in an error below
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")
            return torch.load(file, weights_only=True, map_location="cpu", mmap=zipped)
    except Exception as error:  # the unpickler raises whatever the bytes lead it into
        raise _explain_load_error(file, error, zipped) from error


def _explain_load_error(file: Path, error: Exception, zipped: bool) -> CheckpointError:
    text = str(error)
    refused = re.search(r"GLOBAL ([\w.]+)|[Uu]nsupported class (?:encountered )?([\w.]+)", text)
    if refused:
        name = refused.group(1) or refused.group(2)
        why = f"needs the class {name} to be read, and no code of a checkpoint is run"
        return CheckpointError(str(file), why, hint=RESAVE_HINT)
    if "TorchScript" in text or "torch.jit" in text:
        return CheckpointError(str(file), "is a TorchScript archive, which is code; refused", hint=RESAVE_HINT)
    if zipped:
        return CheckpointError(str(file), "is a damaged checkpoint or another zip archive", hint="copy it again")
    if "EOF" in text:
        return CheckpointError(str(file), "is a damaged checkpoint: its end is missing", hint="copy it again")
    return CheckpointError(str(file), "not a checkpoint", hint="expected a file written by torch.save")


def _find_state(file: Path, content: Mapping[Any, Any]) -> tuple[Mapping[str, torch.Tensor], Mapping[Any, Any]]:
    """The state_dict and the dictionary around it (empty where the file is the state_dict itself)."""
    for key in STATE_KEYS:
        if isinstance(content.get(key), Mapping):
            return _check_state(file, content[key]), content
    if not any(isinstance(value, torch.Tensor) for value in content.values()):
        keys = ", ".join(str(key) for key in list(content)[:5]) or "none"
        raise CheckpointError(str(file), f"no state_dict inside, the keys are: {keys}", hint=RESAVE_HINT)
    return _check_state(file, content), {}


def _check_state(file: Path, state: Mapping[Any, Any]) -> Mapping[str, torch.Tensor]:
    if not state:
        raise CheckpointError(str(file), "its state_dict is empty")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(str(file), f"{key!r} in its state_dict is of type {type(value).__name__}, no tensor")
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            raise CheckpointError(str(file), f"{key!r} is no dense real tensor ({value.layout}, {value.dtype})")
    return state


def _as_args(args: Any) -> Mapping[str, Any]:
    if isinstance(args, argparse.Namespace):
        return vars(args)
    return {str(key): value for key, value in args.items()} if isinstance(args, Mapping) else {}


def _find_class_names(outer: Mapping[Any, Any], args: Mapping[str, Any]) -> tuple[str, ...] | None:
    for holder in (outer, args):
        for key in CLASS_KEYS:
            names: Any = holder.get(key)
            if isinstance(names, Mapping) and sorted(names.values(), key=str) == sorted(range(len(names)), key=str):
                names = sorted(names, key=lambda name: names[name])
            if isinstance(names, (list, tuple)) and names and all(isinstance(one, str) for one in names):
                return tuple(names)
    return None
