"""Class folders, on disk or inside an archive, to a Catalogue: splits above classes, or classes alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from salve_audit.errors import DataError
from salve_audit.inputs.data.catalogue import AUDIT_NAMES, FIT_NAMES, Catalogue, ClassKeys, find_role
from salve_audit.inputs.data.sources.source import ImageSource

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
LAYOUT_HINT = "expected train/ and val/ with one folder per class, or one folder per class"
LABEL_HINT = "labels are the names of class folders; or give a manifest with the columns path and label"

logger = logging.getLogger(__name__)


class Tree(Protocol):
    """Folders and images below a root; parts are relative posix paths, ``""`` is the root."""

    root: Path

    def list_folders(self, part: str) -> list[str]:
        """Sorted names of the visible folders in `part`; none where that is no folder."""

    def list_images(self, part: str) -> list[str]:
        """Sorted names of the images directly in `part`."""

    def walk(self, part: str) -> Iterator[str]:
        """Paths of the images below `part`, subfolders included."""


def is_image(name: str) -> bool:
    """True for the ending of an image file; its contents are checked when it is decoded."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def read_layout(tree: Tree, source: ImageSource) -> Catalogue:
    """The class folders of `tree`.

    A single folder around everything is looked through. Subfolders of a class folder belong to the class.

    Raises:
        DataError: no class folders, no images, a class without any, one class only, or no part to audit.
    """
    base = _unwrap(tree)
    splits = {name: f"{base}{name}" for name in tree.list_folders(base.rstrip("/")) if find_role(name)}
    splits = {name: part for name, part in splits.items() if tree.list_folders(part)}
    fit = _first(splits, FIT_NAMES)
    audit = _first(splits, AUDIT_NAMES)
    kind = "one folder per class"
    if fit and audit:
        parts = {f"{name}/": _read_classes(tree, splits[name]) for name in (fit, audit)}
    elif fit:
        why = f"has {fit}/ but neither val/ nor test/ with class folders"
        raise DataError(str(tree.root / base), why, hint=LAYOUT_HINT)
    elif audit and set(tree.list_folders(base.rstrip("/"))) == set(splits):
        parts = {f"{audit}/": _read_classes(tree, splits[audit])}
    else:
        parts = {"": _read_classes(tree, base.rstrip("/"))}
    classes = tuple(sorted(set().union(*parts.values())))
    return Catalogue(root=tree.root, source=source, kind=kind, parts=parts, classes=classes)


def _unwrap(tree: Tree) -> str:
    """Prefix of the folder where splits or classes begin, ``""`` or ending in a slash."""
    base = ""
    while True:
        folders = tree.list_folders(base.rstrip("/"))
        if len(folders) != 1 or find_role(folders[0]) or tree.list_images(base.rstrip("/")):
            return base
        inner = f"{base}{folders[0]}"
        if not tree.list_folders(inner) or tree.list_images(inner):
            return base
        base = f"{inner}/"


def _first(splits: dict[str, str], names: tuple[str, ...]) -> str:
    by_name = {name.lower(): name for name in splits}
    return next((by_name[name] for name in names if name in by_name), "")


def _read_classes(tree: Tree, part: str) -> ClassKeys:
    """Class name -> sorted paths of its images, all below `part`."""
    names = tree.list_folders(part)
    where = tree.root / part
    if not names:
        if tree.list_images(part):
            raise DataError(str(where), "images without labels: no class folders", hint=LABEL_HINT)
        raise DataError(str(where), "no class folders", hint=LAYOUT_HINT)
    paths_of = {name: sorted(tree.walk(f"{part}/{name}" if part else name)) for name in names}
    if not any(paths_of.values()):
        raise DataError(str(where), "no images", hint=f"known endings: {', '.join(sorted(EXTENSIONS))}")
    for name, paths in paths_of.items():
        if not paths:
            raise DataError(str(where / name), "a class folder without images", hint="fill it or remove it")
    _warn_of_mixed(str(where), part, paths_of)
    if len(names) == 1:
        raise DataError(str(where), f"one class only ({names[0]!r}), an audit needs two or more")
    return paths_of


def _warn_of_mixed(where: str, part: str, paths_of: ClassKeys) -> None:
    """Subfolders with one set of names in every class are parts of another kind: splits, or masks beside images."""
    start = len(part) + 1 if part else 0
    inner = {
        frozenset(key[start:].split("/")[1] for key in keys if key.count("/", start) > 1) for keys in paths_of.values()
    }
    names = next(iter(inner))
    if len(paths_of) > 1 and len(inner) == 1 and len(names) > 1:
        shown = ", ".join(sorted(names)[:4])
        logger.warning(
            "%s: the folders of all classes have the same subfolders (%s); their images are taken together, splits "
            "belong above the classes",
            where, shown,
        )  # fmt: skip
