"""Arrays of images with arrays of labels (NPZ, NPY, IDX) to a Catalogue: paired by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from salve_audit.errors import DataError
from salve_audit.inputs.data.catalogue import Catalogue, find_role
from salve_audit.inputs.data.rows import Row, RowSet, group_rows
from salve_audit.inputs.data.sources.arrays import ArrayPart, ArraySource
from salve_audit.inputs.data.stored_arrays import (
    HELD_HINT,
    MAX_HELD,
    StoredArray,
    load_held,
    read_idx,
    read_npy,
    read_npz,
)
from salve_audit.inputs.names import show_name

IMAGE_WORDS = frozenset({"x", "images", "image", "imgs", "img", "pictures", "data"})
LABEL_WORDS = frozenset({"y", "labels", "label", "targets", "target", "lbl"})
NAME_WORDS = ("class_names", "label_names", "classes", "names")
CHANNELS = (1, 3, 4)
FLAT = {3072: (3, 32, 32), 784: (28, 28)}  # rows of CIFAR's and MNIST's files
MAX_LABELS = 50_000_000
NAME_HINT = "expected x_train and y_train, x_test and y_test; or images and labels; or train_images and train_labels"


def read_npz_data(path: Path) -> Catalogue:
    """Images and labels in a .npz.

    Raises:
        DataError: no pairs of images and labels, wrong types or shapes, or damage.
    """
    return _pair(path, read_npz(path), "NPZ arrays")


def read_npy_data(root: Path, files: Sequence[Path]) -> Catalogue:
    """Images and labels in .npy files; raises as `read_npz_data`."""
    return _pair(root, [read_npy(path) for path in files], "NPY arrays")


def read_idx_data(root: Path, files: Sequence[Path]) -> Catalogue:
    """Images and labels in IDX files; raises as `read_npz_data`."""
    plain = {path.name.removesuffix(".gz"): path for path in sorted(files, reverse=True)}  # the plain file wins
    return _pair(root, [read_idx(path) for path in plain.values()], "IDX files")


def is_idx(path: Path) -> bool:
    """True for the name of an IDX file: ``train-images-idx3-ubyte.gz`` or ``t10k-labels.idx1-ubyte``."""
    return re.search(r"idx[1-4]-ubyte(\.gz)?$", path.name) is not None


def _pair(root: Path, arrays: Sequence[StoredArray], kind: str) -> Catalogue:
    images = {_split_of(array.name): array for array in arrays if _words(array.name) & IMAGE_WORDS}
    labels = {
        _split_of(array.name): array for array in arrays if _words(array.name) & LABEL_WORDS and not _is_names(array)
    }
    if not images:
        names = ", ".join(show_name(array.name) for array in arrays[:6]) or "none"
        raise DataError(str(root), f"no array of images (arrays: {names})", hint=NAME_HINT)
    lacking = next((array.name for split, array in images.items() if split not in labels), None)
    if lacking is not None:
        raise DataError(str(root), f"no labels for the images {show_name(lacking)}", hint=NAME_HINT)
    if len(images) < sum(bool(_words(array.name) & IMAGE_WORDS) for array in arrays):
        raise DataError(str(root), "several arrays of images for one split", hint=NAME_HINT)
    held = [array for array in images.values() if array.offset is None]
    if sum(array.n_bytes for array in held) > MAX_HELD:
        raise DataError(str(held[0].path), f"more than {MAX_HELD // 1024**2} MiB of compressed images", hint=HELD_HINT)
    parts: dict[str, ArrayPart] = {}
    rows: list[Row] = []
    for split, array in images.items():
        name = split or "row"  # part of the key
        parts[name] = _to_part(array)
        values = _read_labels(labels[split], array.shape[0])
        width = len(str(max(len(values) - 1, 0)))
        rows += [Row(f"{name}/{row:0{width}}", value, split) for row, value in enumerate(values)]
    named = next((array for array in arrays if _is_names(array)), None)
    class_names = None if named is None else [str(class_name) for class_name in load_held(named).tolist()]
    return group_rows(RowSet(root=root, source=ArraySource(parts), kind=kind, rows=rows, names=class_names))


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", name.lower()))


def _split_of(name: str) -> str:
    return next((word for word in re.split(r"[^a-z0-9]+", name.lower()) if find_role(word)), "")


def _is_names(array: StoredArray) -> bool:
    return array.name.lower() in NAME_WORDS and array.dtype.kind == "U" and len(array.shape) == 1


def _to_part(array: StoredArray) -> ArrayPart:
    """The images with their shape understood.

    Raises:
        DataError: not uint8, or no shape of images.
    """
    what = f"{array.name!r} is {array.dtype} {array.shape}"
    hint = "expected uint8 (n, h, w), (n, h, w, c) or (n, c, h, w) with 1, 3 or 4 channels, values 0 to 255"
    if array.dtype != np.uint8:
        raise DataError(str(array.path), what, hint=hint)
    shape = array.shape
    if len(shape) == 2 and shape[1] in FLAT and not array.fortran:
        shape = (shape[0], *FLAT[shape[1]])
    last = len(shape) == 4 and shape[3] in CHANNELS
    first = len(shape) == 4 and not last and shape[1] in CHANNELS
    if not (len(shape) == 3 or last or first) or 0 in shape:
        raise DataError(str(array.path), what, hint=hint)
    if shape[1] in CHANNELS and len(array.shape) == 2:
        first = True
    if array.offset is not None and not array.fortran:
        return ArrayPart(shape, first, array.path, array.offset)
    return ArrayPart(shape, first, held=load_held(array).reshape(shape))


def _read_labels(array: StoredArray, n: int) -> list[int | str]:
    """n labels, as whole numbers or as texts.

    Raises:
        DataError: another number of labels than of images, or labels of another kind.
    """
    what = f"{array.name!r} is {array.dtype} {array.shape}"
    hint = f"expected {n} whole numbers or texts, one per image"
    if array.dtype.kind not in "iuU" or array.shape not in ((n,), (n, 1)) or n > MAX_LABELS:
        raise DataError(str(array.path), what, hint=hint)
    values: list[int | str] = load_held(array).reshape(-1).tolist()
    return values
