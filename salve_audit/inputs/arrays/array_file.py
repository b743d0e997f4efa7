"""Files of named arrays, read without running anything in them and without believing what they say of their size."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from salve_audit.errors import DataError
from salve_audit.inputs.digest import hash_stream
from salve_audit.inputs.model.formats.sniff import LARGEST_HEADER
from salve_audit.inputs.npy_header import read_npy_header
from salve_audit.inputs.reasons import summarise_error

ACTS = ("acts", "fit_acts", "audit_acts")  # a file with one of these is a file of arrays
TEXTS = ("class_names", "paths", "fit_paths", "audit_paths")
NAMES = (*ACTS, "labels", "fit_labels", "audit_labels", "weight", "head_weight", "bias", "head_bias", *TEXTS)
METADATA = "__metadata__"  # a safetensors header's own key
DTYPES = {
    "F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8",
    "U8": "<u1", "U16": "<u2", "U32": "<u4", "U64": "<u8", "BOOL": "?",
}  # fmt: skip
BOMB_SIZE, BOMB_RATIO = 1 << 30, 50  # activations compress by less than that


@dataclass(frozen=True)
class ArrayFile:
    """Arrays by name, and the file they came from.

    Attributes:
        path, sha256: the file.
        format: in words, for the report.
        arrays: those of the known names that it has, as stored.
        unread: the other names.
    """

    path: Path
    sha256: str
    format: str
    arrays: Mapping[str, np.ndarray]
    unread: tuple[str, ...] = ()


def is_array_file(path: Path) -> bool:
    """True for a file of activations: by the ending .npz, or by the names in a .safetensors file."""
    ending = path.suffix.lower()
    if path.exists() and not path.is_file():
        return False
    if ending == ".npz":
        return True
    return ending == ".safetensors" and bool(set(ACTS) & _read_names(path))


def read_arrays(path: Path) -> ArrayFile:
    """All arrays with a known name.

    Raises:
        DataError: the file is missing or damaged, an array holds Python objects, or is larger than the file's bytes
            can be.
    """
    try:
        with path.open("rb") as stream:
            sha256 = hash_stream(stream)
    except FileNotFoundError:
        raise DataError(str(path), "no such file") from None
    except OSError as error:
        raise DataError(str(path), f"cannot be read ({error.strerror})") from error
    is_npz = path.suffix.lower() == ".npz"
    arrays, names = _read_npz(path) if is_npz else (_read_safetensors(path), _read_names(path))
    with path.open("rb") as stream:
        if hash_stream(stream) != sha256:
            raise DataError(str(path), "changed while it was read", hint="wait until it is written, then try again")
    unread = tuple(sorted(names - {*NAMES, METADATA}))
    return ArrayFile(path, sha256, f"arrays ({'.npz' if is_npz else '.safetensors'})", arrays, unread)


def _read_names(path: Path) -> set[str]:
    """Names in a safetensors header; none where it cannot be read."""
    try:
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size)) if 0 < size <= min(LARGEST_HEADER, path.stat().st_size) else {}
    except (OSError, ValueError, RecursionError):
        return set()
    return set(header) if isinstance(header, dict) else set()


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], set[str]]:
    """The known arrays, and the names of all."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            known = {name: members[name] for name in NAMES if name in members}
            return {name: _read_member(path, archive, name, info) for name, info in known.items()}, set(members)
    except DataError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # zip and npy readers raise whatever the bytes lead them into
        raise DataError(str(path), f"is damaged or no .npz file ({summarise_error(error)})") from error


def _read_member(path: Path, archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> np.ndarray:
    if info.file_size > max(BOMB_SIZE, BOMB_RATIO * info.compress_size):
        why = f"array {name!r} unpacks from {info.compress_size:,} to {info.file_size:,} bytes; refused"
        raise DataError(str(path), why, hint="activations do not compress so well; np.savez stores them as they are")
    with archive.open(info) as member:
        header = read_npy_header(path, name, member)
        n_bytes = info.file_size - member.tell()
        if header.n_bytes != n_bytes:
            why = f"array {name!r} says it is {header.dtype} {header.shape}, but has {n_bytes:,} bytes"
            raise DataError(str(path), why)
    with archive.open(info) as member:
        array: np.ndarray = np.lib.format.read_array(member, allow_pickle=False)
    return array


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Reads values instead of mapping them: a file that is cut off meanwhile would kill the process."""
    from safetensors import safe_open

    try:
        with safe_open(os.fspath(path), framework="numpy") as file:  # checks the header, touches no values
            names, metadata = [name for name in file.keys() if name in NAMES], file.metadata() or {}  # noqa: SIM118
        with path.open("rb") as stream:
            n_header = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(n_header))
            arrays = {name: _read_tensor(stream, 8 + n_header, header[name]) for name in names}
        together = json.loads(metadata.get("names", "{}"))  # where this tool writes them
        texts = {name: json.loads(metadata[name]) for name in TEXTS if name in metadata}
        texts |= {name: together[name] for name in TEXTS if name in together}
    except Exception as error:  # the reader raises whatever the bytes lead it into
        raise DataError(str(path), f"is damaged or no file of arrays ({summarise_error(error)})") from error
    for name, text in texts.items():
        if not isinstance(text, list) or not all(isinstance(part, str) for part in text):
            raise DataError(str(path), f"its metadata {name!r} is no JSON list of texts")
        arrays[name] = np.array(text, dtype=np.str_)
    return arrays


def _read_tensor(stream: IO[bytes], begin: int, entry: Mapping[str, Any]) -> np.ndarray:
    first, end = entry["data_offsets"]
    stream.seek(begin + first)
    content = stream.read(end - first)
    if len(content) < end - first:
        raise ValueError("it became shorter while it was read")
    if entry["dtype"] == "BF16":  # the upper half of a float32
        return (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
    return np.frombuffer(content, DTYPES[entry["dtype"]]).reshape(entry["shape"])
