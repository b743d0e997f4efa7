"""The files that a manifest means, where its names lack a folder or an ending: ids beside a folder of images."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from salve_audit.errors import DataError
from salve_audit.inputs.data.layout import EXTENSIONS, Tree
from salve_audit.inputs.data.manifest_folder import ManifestFolder
from salve_audit.inputs.names import show_name
from salve_audit.results.decisions import Decision

LOOKED_AT = 100  # names
MAX_FILES = 2_000_000  # below the manifest's folder that are looked through
MAX_FOLDERS = 64
SHOWN = 3
Placed = tuple[list[str], tuple[Decision, ...]]


def place_files(path: Path, folder: ManifestFolder, keys: list[str]) -> Placed:
    """Paths of the files that `keys` mean, relative to `folder`, and the decision where they are not the keys.

    Names that are there stay as they are; single missing ones are named when they are read.

    Raises:
        DataError: none of the first files is there, nor in another folder or with an ending.
    """
    sample = keys[:LOOKED_AT]
    if not sample or any(folder.has_file(key) for key in sample):
        return keys, ()
    tree = folder.tree
    placed = _by_prefix(folder, keys, sample) or _by_name(path, tree, keys)
    if placed is not None:
        return placed
    why = f"none of its first {len(sample)} files exists ({show_name(sample[0])})"
    holding = [name for name in tree.list_folders("")[:MAX_FOLDERS] if tree.list_images(name)]
    hint = f"paths are relative to the manifest's folder, {folder.root}"
    if holding:
        hint += f"; images lie in {', '.join(f'{name}/' for name in holding[:SHOWN])}"
    raise DataError(str(path), why, hint=hint)


def _by_prefix(folder: ManifestFolder, keys: list[str], sample: Sequence[str]) -> Placed | None:
    """One folder and one ending for all names, if all of the first are there so."""
    folders = ["", *(f"{name}/" for name in folder.tree.list_folders("")[:MAX_FOLDERS])]
    endings = ["", *sorted(EXTENSIONS), *(ending.upper() for ending in sorted(EXTENSIONS))]
    for prefix, ending in itertools.product(folders, endings):
        if all(folder.has_file(f"{prefix}{key}{ending}") for key in sample):
            taken = f"{prefix}NAME{ending}"
            decision = Decision("image files", taken, f"{show_name(sample[0])} alone is not there")
            return [f"{prefix}{key}{ending}" for key in keys], (decision,)
    return None


def _by_name(path: Path, tree: Tree, keys: list[str]) -> Placed | None:
    """Each name looked up among all images below the folder, with or without its ending.

    Raises:
        DataError: two files have one of the names.
    """
    files: dict[str, list[str]] = {}
    names = tree.list_folders("")[:MAX_FOLDERS]
    for file in itertools.islice((file for name in names for file in tree.walk(name)), MAX_FILES):
        base = os.path.basename(file)
        for name in {base, os.path.splitext(base)[0]}:
            files.setdefault(name, []).append(file)
    sample = keys[:LOOKED_AT]
    if sum(key in files for key in sample) < len(sample) / 2:
        return None
    for key in keys:
        if len(files.get(key, ())) > 1:
            why = f"{show_name(key)} may be {files[key][0]} or {files[key][1]}"
            raise DataError(str(path), why, hint="list the files with their folders")
    folders = sorted({os.path.dirname(files[key][0]) for key in keys if key in files})
    shown = ", ".join(f"{folder}/" for folder in folders[:SHOWN])
    decision = Decision("image files", f"by their names in {shown}", f"{show_name(sample[0])} alone is not there")
    return [files[key][0] if key in files else key for key in keys], (decision,)
