"""Folders that look like classes and are none: folds of a cross-validation, masks or boxes beside images."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from salve_audit.errors import DataError
from salve_audit.inputs.data.catalogue import guess_role
from salve_audit.inputs.data.other_tasks import BOX_FOLDERS, IMAGE_FOLDERS, MASK_FOLDERS
from salve_audit.results.decisions import Decision

FOLD = re.compile(r"(?:k|cv|cross)?[-_ ]?(?:folds?|splits?|parts?|partitions?|cv)[-_ ]?\d{1,3}", re.IGNORECASE)
SHOWN = 4


class Listing(Protocol):
    """What of a tree of folders is looked at here."""

    root: Path

    def list_folders(self, part: str) -> list[str]:
        """Sorted names of the visible folders in `part`; none where that is no folder."""


def enter_images(tree: Listing, part: str) -> str:
    """The folder of the images in `part`, where folders of masks or boxes beside it have the same class folders."""
    images, beside = _find_beside(tree, part)
    return f"{part}/{images}".lstrip("/") if beside else part


def find_folds(tree: Listing, part: str) -> dict[str, list[str]]:
    """Class -> its folders below `part`, where all folders in that are folds with the same classes; else empty.

    Raises:
        DataError: each fold has parts of its own to fit and to audit.
    """
    folds = tree.list_folders(part)
    if len(folds) < 2 or not all(FOLD.fullmatch(name) for name in folds):
        return {}
    inner = {fold: set(tree.list_folders(f"{part}/{fold}".lstrip("/"))) for fold in folds}
    shared = set.intersection(*inner.values())
    if {"fit", "audit"} <= {guess_role(name) for name in shared}:
        where = tree.root / part
        hint = f"name the fold of this model as DATA: {where / folds[0]}"
        raise DataError(str(where), f"{len(folds)} folds, each with parts of its own", hint=hint)
    if len(shared) < 2:
        return {}
    classes = sorted(set().union(*inner.values()))
    return {name: [f"{fold}/{name}" for fold in folds if name in inner[fold]] for name in classes}


def describe_folds(tree: Listing, parts: Iterable[str]) -> tuple[Decision, ...]:
    """The decisions about folds and about folders beside the images in `parts`."""
    decisions = []
    for part in dict.fromkeys(parts):
        images, beside = _find_beside(tree, part)
        if beside:
            why = f"the class folders in {images}/ are there too, with what belongs to the images"
            decisions.append(Decision(f"folder {', '.join(beside)}", "not used", why))
        inside = enter_images(tree, part)
        if find_folds(tree, inside):
            folds = tree.list_folders(inside)
            taken = f"taken together: {', '.join(folds[:SHOWN])}{', ...' if len(folds) > SHOWN else ''}"
            conflict = "a model knows all folds but its own: name the one that it was not trained on"
            decisions.append(Decision("folds", taken, "each of them holds the classes", conflict))
    return tuple(decisions)


def _find_beside(tree: Listing, part: str) -> tuple[str, list[str]]:
    """The folder of images, and those of masks or boxes that have the same folders; none of these: all are classes."""
    names = tree.list_folders(part)
    images = next((name for name in names if name.lower() in IMAGE_FOLDERS), None)
    if images is None:
        return "", []
    classes = set(tree.list_folders(f"{part}/{images}".lstrip("/")))
    others = [name for name in names if name.lower() in MASK_FOLDERS | BOX_FOLDERS]
    return images, [name for name in others if len(classes & set(tree.list_folders(f"{part}/{name}".lstrip("/")))) > 1]
