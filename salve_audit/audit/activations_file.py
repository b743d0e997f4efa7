"""activations.safetensors: all that an audit of the file itself needs, written block by block."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from salve_audit.activations.store import Activations
from salve_audit.mapped_pages import release_pages

BLOCK_BYTES = 2**24
DTYPES = {"<f4": "F32", "<f8": "F64", "<i8": "I64"}  # the format's names of what an audit has


def write_activations(activations: Activations, classes: Sequence[str], path: Path) -> None:
    """Write both splits with the head and all names.

    Raises:
        OSError: the disk is full.
    """
    names = {"class_names": list(classes)}
    names |= {"fit_paths": list(activations.fit.paths), "audit_paths": list(activations.audit.paths)}
    arrays = _list_arrays(activations)
    header: dict[str, Any] = {"__metadata__": {"names": json.dumps(names, ensure_ascii=False)}}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        header[name] = {"dtype": DTYPES[array.dtype.str], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # keeps the arrays aligned, as the format asks
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            stream.writelines(_cut(array))


def count_bytes(activations: Activations) -> int:
    """Bytes of the arrays, by far the most of the file."""
    return sum(array.nbytes for array in _list_arrays(activations).values())


def _list_arrays(activations: Activations) -> dict[str, np.ndarray]:
    """By name; wide types first, so that each is aligned."""
    fit, audit, head = activations.fit, activations.audit, activations.head
    return {
        "fit_labels": fit.labels,
        "audit_labels": audit.labels,
        "fit_acts": fit.acts,
        "audit_acts": audit.acts,
        "head_weight": head.weight,
        "head_bias": head.bias,
    }


def _cut(array: np.ndarray) -> Iterator[bytes]:
    """The values in blocks of rows."""
    n_rows = max(1, BLOCK_BYTES * len(array) // max(array.nbytes, 1))
    for start in range(0, len(array), n_rows):
        yield np.ascontiguousarray(array[start : start + n_rows]).tobytes()
        release_pages(array)
