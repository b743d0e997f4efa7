"""A folder of class folders to an ImageSet: train/ and val/, or one level that is split by seed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from salve_audit.errors import DataError
from salve_audit.inputs.imageset import ImageSet, ImageSplit

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
AUDIT_FOLDERS = ("val", "test")  # in order of preference
FIT_SHARE = 0.6
LAYOUT_HINT = "expected train/ and val/ with one folder per class, or one folder per class"

logger = logging.getLogger(__name__)
ClassFiles = Mapping[str, list[str]]  # class name -> sorted paths relative to the root


def load_image_folder(root: str | Path, seed: int, limit: int | None = None) -> ImageSet:
    """The labelled pictures under `root`, sorted by class and name.

    Args:
        root: has train/ and val/ (or test/) with one folder per class, or class folders only.
        seed: of the 60/40 split per class where there is one level only, and of the choice under `limit`.
        limit: at most so many pictures per class and split.

    Raises:
        DataError: missing, no folder, empty, a class without pictures, one class only, or unlike splits.
    """
    folder = Path(root)
    if not os.path.lexists(folder):
        raise DataError(str(root), "no such folder")
    if not os.path.isdir(folder):
        raise DataError(str(root), "is not a folder", hint=LAYOUT_HINT)
    folder = folder.resolve()
    audit_name = next((name for name in AUDIT_FOLDERS if _list_folders(folder, name)), None)
    if audit_name and _list_folders(folder, "train"):
        fit, audit = _read_classes(folder, "train"), _read_classes(folder, audit_name)
        _check_same_classes(folder, fit, audit, audit_name)
        layout = f"train/ to fit, {audit_name}/ to audit"
    elif _list_folders(folder, "train"):
        raise DataError(str(root), "has train/ but neither val/ nor test/ with class folders", hint=LAYOUT_HINT)
    else:
        fit, audit = _split(folder, _read_classes(folder, ""), seed)
        layout = f"one folder per class, split 60/40 per class by seed {seed}"
    if limit is not None:
        layout += f", at most {limit} pictures per class and split"
    classes = tuple(sorted(fit))
    return ImageSet(
        root=folder,
        classes=classes,
        fit=_to_split(classes, _choose(fit, limit, seed, part=1)),
        audit=_to_split(classes, _choose(audit, limit, seed, part=2)),
        layout=layout,
    )


def _list_folders(root: Path, part: str) -> list[str]:
    """Sorted names of the visible folders in ``root / part``; none where that is no folder."""
    if not os.path.isdir(root / part):
        return []
    return sorted(entry.name for entry in _scan(root, part) if entry.is_dir())


def _read_classes(root: Path, part: str) -> dict[str, list[str]]:
    """Class name -> sorted relative paths of its pictures, all below ``root / part``."""
    names = _list_folders(root, part)
    if not names:
        raise DataError(str(root / part), "no class folders", hint=LAYOUT_HINT)
    found = {name: sorted(_walk(root, f"{part}/{name}" if part else name)) for name in names}
    if not any(found.values()):
        raise DataError(str(root / part), "no pictures", hint=f"known endings: {', '.join(sorted(EXTENSIONS))}")
    for name, paths in found.items():
        if not paths:
            raise DataError(str(root / part / name), "a class folder without pictures", hint="fill it or remove it")
    if len(names) == 1:
        raise DataError(str(root / part), f"one class only ({names[0]!r}), an audit needs two or more")
    return found


def _walk(root: Path, part: str) -> Iterator[str]:
    """Pictures below ``root / part``, subfolders included, as posix paths relative to `root`."""
    for entry in _scan(root, part):
        if entry.is_dir():
            if not entry.is_symlink():  # a linked folder could lead in a circle
                yield from _walk(root, f"{part}/{entry.name}")
        elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS and entry.is_file():
            if not _is_unicode(entry.name):
                raise DataError(str(root / part), f"the file name {entry.name!r} is not UTF-8", hint="rename it")
            yield f"{part}/{entry.name}"


def _scan(root: Path, part: str) -> Iterator[os.DirEntry[str]]:
    """Visible entries of ``root / part``; links to places outside `root` are left out, with a warning."""
    try:
        with os.scandir(root / part) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(root):
                    logger.warning("%s: a link that leaves the folder, not followed", entry.path)
                    continue
                yield entry
    except OSError as error:
        raise DataError(str(root / part), f"cannot be read ({error.strerror})") from error


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _check_same_classes(root: Path, fit: ClassFiles, audit: ClassFiles, audit_name: str) -> None:
    for having, here, lacking, there in (
        ("train", fit, audit_name, audit),
        (audit_name, audit, "train", fit),
    ):
        for name in sorted(set(here) - set(there)):
            raise DataError(str(root), f"the class {name!r} is in {having}/ but not in {lacking}/")


def _split(root: Path, files: ClassFiles, seed: int) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """60/40 per class; every class keeps a picture on both sides."""
    fit, audit = {}, {}
    for index, (name, paths) in enumerate(sorted(files.items())):
        if len(paths) < 2:
            hint = "add pictures, or give train/ and val/"
            raise DataError(str(root / name), "one picture cannot be split in two parts", hint=hint)
        n_fit = min(max(round(FIT_SHARE * len(paths)), 1), len(paths) - 1)
        order = np.random.default_rng((seed, 0, index)).permutation(len(paths))
        fit[name] = sorted(paths[i] for i in order[:n_fit])
        audit[name] = sorted(paths[i] for i in order[n_fit:])
    return fit, audit


def _choose(files: ClassFiles, limit: int | None, seed: int, part: int) -> ClassFiles:
    """At most `limit` paths per class, drawn without replacement, kept in order."""
    if limit is None:
        return files
    chosen = {}
    for index, (name, paths) in enumerate(sorted(files.items())):
        order = np.random.default_rng((seed, part, index)).permutation(len(paths))[:limit]
        chosen[name] = sorted(paths[i] for i in order)
    return chosen


def _to_split(classes: tuple[str, ...], files: ClassFiles) -> ImageSplit:
    paths = tuple(path for name in classes for path in files[name])
    labels = tuple(index for index, name in enumerate(classes) for _ in files[name])
    return ImageSplit(paths, labels)
