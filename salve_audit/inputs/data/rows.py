"""Images that come as rows of key, label and split: numbers become outputs, texts become class names."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from salve_audit.errors import DataError
from salve_audit.inputs.data.catalogue import Catalogue
from salve_audit.inputs.data.sources.source import ImageSource
from salve_audit.inputs.names import show_name
from salve_audit.results.decisions import Decision

WHOLE = re.compile(r"[0-9]{1,9}(\.0+)?")  # 3.0 is how pandas writes a 3 beside an empty cell
UNLABELLED = -1  # Hugging Face's label of images whose labels are kept secret

logger = logging.getLogger(__name__)


class Row(NamedTuple):
    """One image: its key, its label as stored, and its split or ``""``."""

    key: str
    label: int | str | None
    split: str = ""


@dataclass(frozen=True)
class RowSet:
    """Rows of a data set with their source, class names and attributes.

    Attributes:
        root, source, kind: see `Catalogue`.
        rows: in any order.
        names: class names by label number, or None.
        attributes: column -> key -> text.
        in_reading_order, decisions: see `Catalogue`.
    """

    root: Path
    source: ImageSource
    kind: str
    rows: Sequence[Row]
    names: Sequence[str] | None = None
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    in_reading_order: bool = False
    decisions: tuple[Decision, ...] = ()


def group_rows(row_set: RowSet) -> Catalogue:
    """The rows by split and class.

    Raises:
        DataError: no rows, a row without a label, a negative label, or one key twice.
    """
    rows = _drop_secret(row_set.root, row_set.rows)
    if not rows:
        raise DataError(str(row_set.root), "no images with labels")
    _check_labels(row_set.root, rows)
    classes, indices, names = _find_classes(row_set, rows)
    parts: dict[str, dict[str, list[str]]] = {}
    for row, name in zip(rows, names, strict=True):
        parts.setdefault(row.split, {class_name: [] for class_name in classes})[name].append(row.key)
    for keys in parts.values():
        for own in keys.values():
            own.sort()
    return Catalogue(
        root=row_set.root,
        source=row_set.source,
        kind=row_set.kind,
        parts=parts,
        classes=classes,
        indices=indices,
        attributes=row_set.attributes,
        in_reading_order=row_set.in_reading_order,
        decisions=row_set.decisions,
    )


def _find_classes(row_set: RowSet, rows: Sequence[Row]) -> tuple[tuple[str, ...], tuple[int, ...] | None, list[str]]:
    """Class names in label order, the outputs they ask for, and each row's class."""
    numbers = [number for row in rows if (number := as_number(row.label)) is not None]
    if len(numbers) < len(rows):
        texts = [str(row.label) for row in rows]
        return tuple(sorted(set(texts))), None, texts
    indices = tuple(sorted(set(numbers)))
    name_of = {index: _name(row_set, index) for index in indices}
    if len(set(name_of.values())) < len(name_of):
        raise DataError(str(row_set.root), "two of its classes have the same name")
    return tuple(name_of.values()), indices, [name_of[number] for number in numbers]


def as_number(label: int | str | None) -> int | None:
    """The label as a whole number from 0 on, or None."""
    if isinstance(label, int):
        return label
    if isinstance(label, str) and WHOLE.fullmatch(label.strip()):
        return int(label.strip().partition(".")[0])
    return None


def _name(row_set: RowSet, index: int) -> str:
    if row_set.names is None:
        return str(index)
    if index >= len(row_set.names):
        why = f"the label {index} is beyond its {len(row_set.names)} class names"
        raise DataError(str(row_set.root), why)
    return row_set.names[index]


def _drop_secret(root: Path, rows: Sequence[Row]) -> list[Row]:
    """The rows without the splits in which every label is -1."""
    known = {row.split for row in rows if row.label != UNLABELLED}
    secret = sorted({row.split for row in rows} - known)
    for split in secret:
        logger.warning("%s: the split %r has no labels (all are -1), left out", root, split)
    return [row for row in rows if row.split in known]


def _check_labels(root: Path, rows: Sequence[Row]) -> None:
    without = [row.key for row in rows if row.label is None or row.label == ""]
    if without:
        why = f"{len(without)} of {len(rows)} images have no label, the first is {show_name(without[0])}"
        raise DataError(str(root), why, hint="fill in the labels or leave the rows out")
    below = next((row for row in rows if isinstance(row.label, int) and row.label < 0), None)
    if below is not None:
        raise DataError(str(root), f"the label of {show_name(below.key)} is {below.label}, expected 0 or more")
    keys: set[str] = set()
    for row in rows:
        if row.key in keys:
            hint = "an image in both splits, or with two labels, would spoil the audit"
            raise DataError(str(root), f"{show_name(row.key)} is listed twice", hint=hint)
        keys.add(row.key)
