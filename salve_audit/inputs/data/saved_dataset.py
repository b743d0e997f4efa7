"""A folder written by `datasets.save_to_disk`: its JSON says which Arrow files make which split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from salve_audit.errors import DataError
from salve_audit.inputs.data.catalogue import Catalogue
from salve_audit.inputs.data.table_data import read_tables
from salve_audit.inputs.names import check_relative, show_name

KIND = "data set saved by Hugging Face datasets"
MAX_BYTES = 64 * 1024**2


def is_saved_dataset(root: Path) -> bool:
    """True for a folder that has the files that `save_to_disk` writes."""
    return (root / "dataset_dict.json").is_file() or (root / "state.json").is_file()


def read_saved_dataset(root: Path) -> Catalogue:
    """The images of a saved Dataset or DatasetDict.

    Raises:
        DataError: its JSON or Arrow files are missing or damaged, or it was saved with a selection of rows beside it.
    """
    if not (root / "dataset_dict.json").is_file():
        return read_tables([(path, "") for path in _files(root, root)], root, KIND)
    splits = _read_json(root / "dataset_dict.json").get("splits")
    if not isinstance(splits, list) or not all(isinstance(name, str) for name in splits):
        raise DataError(str(root / "dataset_dict.json"), "names no splits")
    files = [(path, name) for name in splits for path in _files(root, root / _one_name(root, name))]
    return read_tables(files, root, KIND)


def _files(root: Path, folder: Path) -> list[Path]:
    state = _read_json(folder / "state.json")
    if state.get("_indices_files"):
        hint = "call .flatten_indices() before save_to_disk"
        raise DataError(str(folder), "holds a selection of rows that is not written out", hint=hint)
    listed = state.get("_data_files")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise DataError(str(folder / "state.json"), "lists no data files")
    files = [folder / _one_name(folder, str(entry.get("filename"))) for entry in listed]
    for path in files:
        if not path.resolve().is_relative_to(root):
            raise DataError(str(path), "a link that leaves the folder; refused")
        if not path.is_file():
            raise DataError(str(path), "no such file", hint="copy the data set again")
    return files


def _one_name(folder: Path, name: str) -> str:
    try:
        if "/" in check_relative(name):
            raise ValueError("is not in this folder")
        if not name.isprintable():
            raise ValueError("has characters that cannot be printed")
    except ValueError as error:
        raise DataError(str(folder), f"it names {show_name(name)}, which {error}; refused") from error
    return name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("far too large")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
    except OSError as error:
        raise DataError(str(path), f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(str(path), f"damaged ({error})") from error
    return content
