"""Class folders, on disk or inside an archive, to a Catalogue: splits above classes, or classes alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from salve_audit.errors import DataError
from salve_audit.inputs.data.catalogue import (
    FIT_NAMES,
    Catalogue,
    ClassKeys,
    choose_audit_part,
    find_role,
    guess_role,
)
from salve_audit.inputs.data.folds import describe_folds, enter_images, find_folds
from salve_audit.inputs.data.other_tasks import refuse_other_task
from salve_audit.inputs.data.sources.source import ImageSource
from salve_audit.results.decisions import Decision

EXTENSIONS = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".apng", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm",
        ".pgm", ".pbm", ".pnm",
    }
)  # fmt: skip
NO_LABELS = "images without labels: no class folders"
LAYOUT_HINT = "expected train/ and val/ with one folder per class, or one folder per class"
LABEL_HINT = "labels are the names of class folders; or give a manifest with the columns path and label"

logger = logging.getLogger(__name__)


class Tree(Protocol):
    """Folders and images below a root; parts are relative posix paths, ``""`` is the root."""

    root: Path

    def list_folders(self, part: str) -> list[str]:
        """Sorted names of the visible folders in `part`; none where that is no folder."""

    def list_any_folders(self, part: str) -> list[str]:
        """As `list_folders`, with folders that have no images."""

    def list_images(self, part: str) -> list[str]:
        """Sorted names of the images directly in `part`."""

    def walk(self, part: str) -> Iterator[str]:
        """Paths of the images below `part`, subfolders included."""

    def has_files(self, part: str, ending: str) -> bool:
        """True for files with that ending directly in `part`."""

    def describe(self) -> tuple[Decision, ...]:
        """The decisions about what was left out."""

    def describe_hidden(self) -> str:
        """Which files were left out although they are images by their first bytes."""


def is_image(name: str) -> bool:
    """True for the ending of an image file; its contents are checked when it is decoded."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def read_layout(tree: Tree, source: ImageSource) -> Catalogue:
    """The class folders of `tree`.

    A single folder around everything is looked through. Subfolders of a class folder belong to the class, unless they
    are splits in all classes.

    Raises:
        DataError: no class folders, no images, a class without any, one class only, or a data set of another task.
    """
    outer = _unwrap(tree)
    inner = enter_images(tree, outer.rstrip("/"))
    base = _unwrap(tree, inner) if inner != outer.rstrip("/") else outer
    for place in dict.fromkeys(("", base)):
        refuse_other_task(tree, place)
    splits = _find_splits(tree, base)
    parts, decisions = _read_parts(tree, base, splits)
    kind = "one folder per class"
    classes = tuple(sorted(set().union(*parts.values())))
    looked_at = [place.rstrip("/") for place in (outer, base, *splits.values())]
    decisions = (*decisions, *describe_folds(tree, looked_at), *tree.describe())
    return Catalogue(root=tree.root, source=source, kind=kind, parts=parts, classes=classes, decisions=decisions)


def _find_splits(tree: Tree, base: str) -> dict[str, str]:
    """Split name -> its folder: folders with a split's name that hold class folders.

    Longer names (``seg_train``, ``test_set``) count only where both kinds are there and share class folders.
    """
    names = tree.list_folders(base.rstrip("/"))
    exact = {name: f"{base}{name}" for name in names if find_role(name)}
    if {find_role(name) for name in exact} != {"fit", "audit"}:
        loose = {name: f"{base}{name}" for name in names if guess_role(name)}
        folders = {name: set(tree.list_folders(_unwrap(tree, part).rstrip("/"))) for name, part in loose.items()}
        fit = set().union(*(folders[name] for name in loose if guess_role(name) == "fit"))
        audit = set().union(*(folders[name] for name in loose if guess_role(name) == "audit"))
        exact = loose if fit & audit else exact
    return {name: part for name, part in exact.items() if tree.list_folders(part)}


def _read_parts(tree: Tree, base: str, splits: Mapping[str, str]) -> tuple[dict[str, ClassKeys], tuple[Decision, ...]]:
    """The parts to fit and to audit, or the only one; and why these."""
    names = tree.list_folders(base.rstrip("/"))
    fit = next(iter(sorted((name for name in splits if guess_role(name) == "fit"), key=_rank_fit)), "")
    audited = [name for name in splits if guess_role(name) == "audit"]
    if fit and audited:
        own = _read_classes(tree, splits[fit])
        others = {f"{name}/": keys for name in audited if (keys := _read_other(tree, splits[name], len(audited)))}
        audit, decisions = choose_audit_part(others, list(others))
        return {f"{fit}/": own, audit: others[audit]}, decisions
    if fit or (audited and set(names) == set(splits)):
        only = fit or audited[0]
        without = [name for name in names if name not in splits and guess_role(name)]
        decisions = tuple(
            Decision(f"folder {name}", "not used", "it has no class folders, so that its images have no labels")
            for name in without
        )
        return {f"{only}/": _read_classes(tree, splits[only])}, decisions
    inner = {} if find_folds(tree, base.rstrip("/")) else _find_inner_splits(tree, base, names)
    if inner:
        return _read_inner_splits(tree, base, names, inner)
    _refuse_bare_splits(tree, base, names)
    return {"": _read_classes(tree, base.rstrip("/"))}, ()


def _refuse_bare_splits(tree: Tree, base: str, names: list[str]) -> None:
    """Raises where the folders are splits with images and no class folders, which are no two classes."""
    roles = {guess_role(name) for name in names}
    if len(names) > 1 and roles == {"fit", "audit"} and not any(tree.list_folders(f"{base}{name}") for name in names):
        shown = " and ".join(f"{name}/" for name in names[:3])
        hint = f"{shown} are called as splits, and the images in them lie in no class folders; {LABEL_HINT}"
        raise DataError(str(tree.root / base.rstrip("/")), NO_LABELS, hint=hint)


def _rank_fit(name: str) -> tuple[int, str]:
    order = {known: rank for rank, known in enumerate(FIT_NAMES)}
    return order.get(name.lower(), len(order)), name


def _read_other(tree: Tree, part: str, n_parts: int) -> ClassKeys | None:
    """The classes of a part to audit; None where it is unusable and there is another one."""
    try:
        return _read_classes(tree, part)
    except DataError:
        if n_parts == 1:
            raise
        return None


def _find_inner_splits(tree: Tree, base: str, names: list[str]) -> dict[str, str]:
    """Role -> name of the subfolder that has it, where the folders of all classes have the same two or more."""
    inner = {frozenset(tree.list_folders(f"{base}{name}")) for name in names}
    shared = next(iter(inner)) if len(inner) == 1 and len(names) > 1 else frozenset[str]()
    roles = {guess_role(name): name for name in sorted(shared, key=_rank_fit, reverse=True)}
    return roles if {"fit", "audit"} <= set(roles) else {}


def _read_inner_splits(
    tree: Tree, base: str, names: list[str], inner: Mapping[str, str]
) -> tuple[dict[str, ClassKeys], tuple[Decision, ...]]:
    parts: dict[str, ClassKeys] = {}
    for role in ("fit", "audit"):
        keys = {name: sorted(tree.walk(f"{base}{name}/{inner[role]}")) for name in names}
        empty = next((name for name, paths in keys.items() if not paths), None)
        if empty is not None:
            where = tree.root / f"{base}{empty}/{inner[role]}"
            raise DataError(str(where), "a class folder without images", hint="fill it or remove it")
        parts[f"{inner[role]}/"] = keys
    why = "every class folder has these subfolders"
    return parts, (Decision("splits", f"{inner['fit']}/ and {inner['audit']}/ inside the class folders", why),)


def _unwrap(tree: Tree, part: str = "") -> str:
    """Prefix of the folder in `part` where splits or classes begin, ``""`` or ending in a slash."""
    base = f"{part}/" if part else ""
    while True:
        folders = tree.list_folders(base.rstrip("/"))
        if len(folders) != 1 or find_role(folders[0]) or tree.list_images(base.rstrip("/")):
            return base
        inner = f"{base}{folders[0]}"
        if not tree.list_folders(inner) or tree.list_images(inner):
            return base
        base = f"{inner}/"


def _read_classes(tree: Tree, part: str) -> ClassKeys:
    """Class name -> sorted paths of its images, all below `part`."""
    part = enter_images(tree, _unwrap(tree, part).rstrip("/") if part else part)
    names = tree.list_folders(part)
    where = tree.root / part
    if not names:
        if tree.list_images(part):
            raise DataError(str(where), NO_LABELS, hint=LABEL_HINT)
        raise DataError(str(where), "no class folders", hint=LAYOUT_HINT)
    folders = find_folds(tree, part) or {name: [name] for name in names}
    start = f"{part}/" if part else ""
    paths_of = {
        name: sorted(path for folder in own for path in tree.walk(f"{start}{folder}")) for name, own in folders.items()
    }
    if not any(paths_of.values()):
        raise DataError(
            str(where), "no images", hint=_hint_at_files(tree, f"known endings: {', '.join(sorted(EXTENSIONS))}")
        )
    for name, paths in paths_of.items():
        if not paths:
            hint = _hint_at_files(tree, "fill it or remove it")
            raise DataError(str(where / folders[name][0]), "a class folder without images", hint=hint)
    if folders.keys() == set(names):
        _warn_of_mixed(str(where), part, paths_of)
    if len(folders) == 1:
        raise DataError(str(where), f"one class only ({names[0]!r}), an audit needs two or more")
    return paths_of


def _hint_at_files(tree: Tree, otherwise: str) -> str:
    """What to do where no images were found: name or convert those that are images by their first bytes."""
    hidden = tree.describe_hidden()
    return f"{hidden}: give them the ending of a format that is read, or convert them" if hidden else otherwise


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
