"""Checks of arrays from a file; every refusal names file, array, type and shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from jaxtyping import Int

from salve_audit.errors import DataError
from salve_audit.inputs.arrays.array_file import ArrayFile
from salve_audit.inputs.names import show_name

LABELS = ("labels", "fit_labels", "audit_labels")
LARGEST_WHOLE = 2**53  # up to here every whole number is a float64


def with_whole_labels(file: ArrayFile) -> ArrayFile:
    """`file` with labels of whole numbers as integers, where they are stored as floating-point numbers."""
    arrays = dict(file.arrays)
    for name in LABELS:
        array = arrays.get(name)
        if array is not None and array.dtype.kind == "f":
            with np.errstate(invalid="ignore"):
                if bool(((np.abs(array) < LARGEST_WHOLE) & (np.floor(array) == array)).all()):
                    arrays[name] = array.astype(np.int64)
    return replace(file, arrays=arrays)


@dataclass(frozen=True)
class ArrayChecks:
    """Reads arrays of `file` in the types that the audit works with, or refuses them."""

    file: ArrayFile

    def refuse(self, name: str, why: str) -> DataError:
        """The error about array `name`."""
        array = self.file.arrays[name]
        return DataError(str(self.file.path), f"array {name!r} ({array.dtype} {array.shape}): {why}")

    def named_labels(self, labels: Sequence[str], n_classes: int) -> ArrayChecks:
        """The checks with labels that are texts turned into numbers, by the names of the outputs."""
        index = {name: number for number, name in enumerate(labels)}
        arrays = dict(self.file.arrays)
        for name in LABELS:
            if name in arrays and arrays[name].dtype.kind == "U":
                unknown = next((str(text) for text in arrays[name].flat if str(text) not in index), None)
                if unknown is not None:
                    raise self.refuse(name, f"{show_name(unknown)} is none of the {n_classes} class_names")
                flat = [index[str(text)] for text in arrays[name].flat]
                arrays[name] = np.array(flat, dtype=np.int64).reshape(arrays[name].shape)
        return ArrayChecks(replace(self.file, arrays=arrays))

    def list_texts(self) -> list[str]:
        """The distinct labels, sorted, where labels are texts."""
        arrays = [self.file.arrays[name] for name in LABELS if name in self.file.arrays]
        return sorted({str(text) for array in arrays if array.dtype.kind == "U" for text in array.flat})

    def numbers(self, name: str, ndim: int, axes: str) -> npt.NDArray[np.float32]:
        """Array `name` as contiguous float32.

        Raises:
            DataError: it is missing, empty, not numeric, of another number of axes, or not finite.
        """
        array = self._get(name)
        if array.dtype.kind not in "fiu":
            raise self.refuse(name, "expected floating-point numbers")
        if array.ndim != ndim:
            raise self.refuse(name, f"expected {ndim} {'axis' if ndim == 1 else 'axes'} ({axes})")
        if not array.size:
            raise self.refuse(name, "is empty")
        with np.errstate(over="ignore"):  # too large for float32 is infinite, and said so
            values = np.ascontiguousarray(array, dtype=np.float32)
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            kind = "NaN" if np.isnan(values[tuple(bad[0])]) else "infinite values"
            raise self.refuse(name, f"has {kind}, the first at {[int(position) for position in bad[0]]}")
        return values

    def labels(self, name: str, n: int, n_classes: int, label: int | None = None) -> Int[np.ndarray, " n"]:
        """Array `name` as int64 class indices; with `label`, 1 where that one is present and 0 where it is not.

        Raises:
            DataError: it is missing, not whole numbers, not one (or, with `label`, one per output) per sample, or out
                of range.
        """
        array = self._get(name)
        if array.dtype.kind not in "iub":
            raise self.refuse(name, "expected whole numbers, the index of each sample's class")
        if label is not None and array.ndim == 2:
            return self._presence(name, n, n_classes)[:, label].astype(np.int64)
        if self.is_one_hot(name):
            array = self._presence(name, n, n_classes).argmax(1)
        if array.shape != (n,):
            raise self.refuse(name, f"expected ({n},), one label for each of {n} samples")
        wrong = np.flatnonzero((array < 0) | (array >= n_classes)) if array.dtype.kind != "b" else np.array([], int)
        if len(wrong):
            value = array[wrong[0]]
            raise self.refuse(name, f"label {value} at [{wrong[0]}] is not in 0..{n_classes - 1}")
        return array.astype(np.int64) if label is None else (array == label).astype(np.int64)

    def is_one_hot(self, name: str) -> bool:
        """True for labels with exactly one 1 per row, all else 0, and at least two columns."""
        array = self.file.arrays.get(name)
        if array is None or array.ndim != 2 or array.shape[1] < 2 or not len(array) or array.dtype.kind not in "iub":
            return False
        return bool(((array == 0) | (array == 1)).all() and (array.sum(1) == 1).all())

    def _presence(self, name: str, n: int, n_classes: int) -> np.ndarray:
        array = self.file.arrays[name]
        if array.shape != (n, n_classes):
            raise self.refuse(name, f"expected ({n}, {n_classes}), one column for each output")
        wrong = np.argwhere((array != 0) & (array != 1))
        if len(wrong):
            raise self.refuse(name, f"holds {array[tuple(wrong[0])]} at {wrong[0].tolist()}, expected 0 and 1")
        return array

    def texts(self, name: str, n: int) -> tuple[str, ...] | None:
        """Array `name` as `n` texts; None where there is none.

        Raises:
            DataError: it is no text, or not `n` of them.
        """
        if name not in self.file.arrays:
            return None
        array = self.file.arrays[name]
        if array.dtype.kind != "U":
            raise self.refuse(name, "expected text")
        if array.shape != (n,):
            raise self.refuse(name, f"expected ({n},)")
        return tuple(str(text) for text in array)

    def _get(self, name: str) -> np.ndarray:
        if name not in self.file.arrays:
            have = ", ".join(self.file.arrays) or "none of the known names"
            raise DataError(str(self.file.path), f"has no array {name!r} (arrays: {have})")
        return self.file.arrays[name]
