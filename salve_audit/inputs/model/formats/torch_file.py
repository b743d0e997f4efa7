"""torch.save files and safetensors files to what they hold; code in them is run after ``--trust-model`` alone."""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.formats.opcodes import find_network_class, list_globals
from salve_audit.inputs.model.formats.sniff import FileKind
from salve_audit.inputs.reasons import summarise_error

RESAVE_HINT = "save it again as {'arch': NAME, 'state_dict': model.state_dict(), 'args': {...}} with plain values"
TRUST_HINT = "--trust-model runs the code in it, if you know who made it"
COPY_HINT = "copy it again"
MAX_UNPACKED, MAX_RATIO = 64 << 20, 4  # torch.save does not compress at all
LARGEST_SCALAR = 64  # bytes
# a file that is cut off while it is mapped kills the process (SIGBUS); only what is large for the memory is mapped
LARGEST_READ = 2 << 30


def load_torch_file(file: Path, kind: FileKind) -> Any:
    """Reads what torch.save put into `file`, by torch's restricted unpickler.

    Raises:
        CheckpointError: it is damaged, no such file at all, needs code to be read, or would expand without bounds.
    """
    _refuse_bombs(file, kind)
    try:
        with _quietly(), torch.serialization.safe_globals(_plain_classes()):
            if kind is not FileKind.ZIPPED:
                return torch.load(file, weights_only=True, map_location="cpu")
            # mapping touches no values, and checks that every tensor lies inside of its record
            mapped = torch.load(file, weights_only=True, map_location="cpu", mmap=True)
            is_large = file.stat().st_size > LARGEST_READ
            return mapped if is_large else torch.load(file, weights_only=True, map_location="cpu", mmap=False)
    except Exception as error:  # the unpickler raises whatever the bytes lead it into
        raise _explain(file, kind, error) from error


def load_trusted_file(file: Path, kind: FileKind) -> Any:
    """Reads what torch.save put into `file`, and runs the code that it asks for.

    Raises:
        CheckpointError: it cannot be read so either, for instance as its class is not installed here.
    """
    try:
        with _quietly():
            is_mapped = kind is FileKind.ZIPPED and file.stat().st_size > LARGEST_READ
            return torch.load(file, weights_only=False, map_location="cpu", mmap=is_mapped)
    except Exception as error:  # the file's own code may raise anything
        hint = "what it was made with must be importable here"
        raise CheckpointError(str(file), f"cannot be loaded ({summarise_error(error)})", hint=hint) from error


def load_safetensors(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file.

    Raises:
        CheckpointError: it is damaged.
    """
    from safetensors.torch import load, load_file

    try:
        if file.stat().st_size > LARGEST_READ:
            return dict(load_file(file, device="cpu"))
        with _quietly():
            return dict(load(file.read_bytes()))
    except Exception as error:  # the library has errors of several languages
        why = f"is a damaged safetensors file ({summarise_error(error)})"
        raise CheckpointError(str(file), why, hint=COPY_HINT) from error


def refuse_code(file: Path, what: str) -> CheckpointError:
    """The error for a file that is itself a program."""
    return CheckpointError(str(file), f"is a {what}, which is code; refused", hint=f"{TRUST_HINT}; or {RESAVE_HINT}")


@contextmanager
def _quietly() -> Iterator[None]:
    # the warnings concern foreign pickles and old formats; what cannot be read ends in an error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _plain_classes() -> list[Any]:
    """Classes of plain values that training scripts put beside their weights, the best accuracy for instance."""
    scalar: Any = np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(dtype)) for dtype in (np.float64, np.float32, np.int64, np.int32, np.bool_)}
    name = f"{scalar.__module__}.{scalar.__name__}"
    return [argparse.Namespace, np.dtype, *kinds, (_make_scalar, name), (_make_scalar, "numpy.core.multiarray.scalar")]


def _make_scalar(dtype: np.dtype[Any], content: bytes = b"") -> Any:
    """Makes a scalar of a bounded size: numpy's own constructor would fill memory to any size that a dtype says."""
    if dtype.itemsize > LARGEST_SCALAR or len(content) != dtype.itemsize:
        raise ValueError("a scalar of another size than its type")
    return np.frombuffer(content, dtype)[0]


def _refuse_bombs(file: Path, kind: FileKind) -> None:
    """Refuses what would fill the memory before torch's unpickler says anything."""
    if kind in (FileKind.ZIPPED, FileKind.OTHER_ZIP):
        try:
            with zipfile.ZipFile(file) as archive:
                n_bytes = sum(info.file_size for info in archive.infolist())
        except Exception:  # damaged: the loading says it
            return
        if n_bytes > MAX_UNPACKED + MAX_RATIO * file.stat().st_size:
            raise CheckpointError(str(file), f"unpacks to {n_bytes:,} bytes, as a zip bomb does; refused")
    if any(name.endswith("builtin__.bytearray") or name == "builtins.bytearray" for name in list_globals(file, kind)):
        raise CheckpointError(str(file), "holds a bytearray, which may be of any size; refused", hint=RESAVE_HINT)


def _explain(file: Path, kind: FileKind, error: Exception) -> CheckpointError:
    text = str(error)
    refused = re.search(r"GLOBAL ([\w.]+)|[Uu]nsupported class (?:encountered )?([\w.]+)", text)
    if refused:
        network = find_network_class(list_globals(file, kind))
        if network is not None:
            return refuse_code(file, f"whole pickled network ({network})")
        name = refused.group(1) or refused.group(2)
        why = f"needs the class {name} to be read, and no code of a checkpoint is run"
        return CheckpointError(str(file), why, hint=f"{TRUST_HINT}; or {RESAVE_HINT}")
    if kind in (FileKind.ZIPPED, FileKind.OTHER_ZIP):
        return CheckpointError(str(file), "is a damaged checkpoint or another zip archive", hint=COPY_HINT)
    if "EOF" in text:
        return CheckpointError(str(file), "is a damaged checkpoint: its end is missing", hint=COPY_HINT)
    return CheckpointError(str(file), "not a checkpoint", hint="expected a file written by torch.save")


def as_mapping(file: Path, content: Any) -> Mapping[Any, Any]:
    """`content` itself, if it is a dictionary.

    Raises:
        CheckpointError: it is something else.
    """
    if not isinstance(content, Mapping):
        why = f"holds one {type(content).__name__}, expected a state_dict"
        raise CheckpointError(str(file), why, hint=RESAVE_HINT)
    return content
