"""The key to an anonymised audit: a file beside its folder, never in it."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from salve_audit.errors import OutputError
from salve_audit.results.relabel import LEFT_OUT, Key, anonymise, anonymous_path

if TYPE_CHECKING:
    from salve_audit.audit.recall import Measured


def key_path(out: Path) -> Path:
    """Where the key to the results in `out` lies."""
    whole = out.resolve()
    return whole.with_name(f"{whole.name}.key.json")


def write_key(key: Key, out: Path) -> None:
    """Write the key for its owner's eyes alone; an older one is replaced.

    Raises:
        OutputError: it cannot be written.
    """
    path = key_path(out)
    text = json.dumps({"classes": dict(key.classes), "paths": dict(key.paths)}, ensure_ascii=False, indent=1) + "\n"
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        partial.replace(path)
    except OSError as error:
        raise OutputError(str(path), f"cannot be written ({error.strerror})") from error


def anonymise_measured(measured: Measured, out: Path) -> Measured:
    """The audit without names of classes, files and folders; the key is written beside `out`.

    Raises:
        OutputError: the key cannot be written.
    """
    anonymous, key = anonymise(measured.result)
    samples = anonymise_samples(measured.samples, key)
    concepts = None if measured.concepts is None else anonymise_header(measured.concepts, key)
    write_key(key, out)
    return dataclasses.replace(measured, result=anonymous, samples=samples, concepts=concepts)


def anonymise_samples(parquet: bytes, key: Key) -> bytes:
    """samples.parquet with labels for names and numbers for paths."""
    import pandas as pd

    table = pd.read_parquet(io.BytesIO(parquet), engine="pyarrow")
    labels = {name: label for label, name in key.classes.items()}
    for column in ("label", "predicted", "flips_to"):
        table[column] = table[column].map(labels)
    numbers = {path: number for number, path in key.paths.items()}
    known = dict(numbers)
    table["path"] = [anonymous_path(path, known) for path in table["path"]]
    buffer = io.BytesIO()
    table.to_parquet(buffer, engine="pyarrow", index=False, compression="zstd")
    return buffer.getvalue()


def anonymise_header(safetensors: bytes, key: Key) -> bytes:
    """A safetensors file whose metadata holds labels for class names."""
    length = struct.unpack("<Q", safetensors[:8])[0]
    header = json.loads(safetensors[8 : 8 + length])
    labels = {name: label for label, name in key.classes.items()}
    metadata = header.get("__metadata__", {})
    if "concepts" in metadata:
        classes = {index: labels.get(name, LEFT_OUT) for index, name in json.loads(metadata["concepts"]).items()}
        metadata["concepts"] = json.dumps(classes)
    if metadata.get("why_absent"):
        metadata["why_absent"] = LEFT_OUT
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + safetensors[8 + length :]
