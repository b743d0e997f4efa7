"""Known concepts of every sample, as columns of yes and no: its class, and the attributes of a manifest.

A column of yes/no (true/false, 1/0, present/absent) is one concept that bears the column's name. Any other column is
one concept for each of its values, ``column=value``. Numbers are taken for names of values as long as there are few of
them: where a measurement should be cut into groups, only its owner knows.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from salve_audit.errors import DataError, UsageError

logger = logging.getLogger(__name__)

MOST_VALUES = 20  # of a column; with more it is a measurement, a name or a text, not a concept
YES_NO = ({"yes", "no"}, {"true", "false"}, {"1", "0"}, {"1.0", "0.0"}, {"present", "absent"}, {"y", "n"}, {"t", "f"})
YES = {"yes", "true", "1", "1.0", "present", "y", "t"}
LEAVE_OUT = "or name the columns to know with --attributes"


@dataclass(frozen=True, eq=False)
class Concepts:
    """Concepts by name, and the samples that show each.

    Attributes:
        names: c of them, all different.
        present: (n, c).
    """

    names: tuple[str, ...]
    present: Bool[np.ndarray, "n c"]

    def __post_init__(self) -> None:
        assert self.present.shape[1:] == (len(self.names),), f"{self.present.shape} for {len(self.names)} names"
        assert self.present.dtype == np.bool_, f"expected bool, got {self.present.dtype}"

    def beside(self, other: Concepts) -> Concepts:
        """The concepts of both, these first."""
        return Concepts((*self.names, *other.names), np.concatenate([self.present, other.present], axis=1))

    def at(self, rows: Int[np.ndarray, " r"]) -> Concepts:
        """The chosen samples, with the concepts that distinguish any of them; twins become one with both names.

        A concept that all or none of the samples show has no effect that could be estimated. It is left out, which the
        log says unless no sample shows it.
        """
        present = self.present[rows]
        first_by_digest: dict[bytes, int] = {}
        names: list[str] = []
        for index, name in enumerate(self.names):
            column = present[:, index]
            if column.all() or not column.any():
                logger.log(logging.WARNING if column.any() else logging.INFO, "concept %r has no contrast", name)
                continue
            first = first_by_digest.setdefault(hashlib.sha256(column.tobytes()).digest(), index)
            if first == index:
                names.append(name)
            else:
                at = list(first_by_digest.values()).index(first)
                names[at] = f"{names[at]} = {name}"
        return Concepts(tuple(names), present[:, list(first_by_digest.values())])


def class_concepts(labels: Int[np.ndarray, " n"], names: Sequence[str] | None = None) -> Concepts:
    """One concept for every class with samples; without `names` they are called by their number."""
    present = np.unique(labels)
    called = tuple(f"class {index}" if names is None else names[index] for index in present)
    return Concepts(called, labels[:, None] == present)


def column_concepts(source: str, columns: Mapping[str, Sequence[str]], keys: Sequence[str] | None = None) -> Concepts:
    """The concepts of columns of text, each with one value for every sample.

    Args:
        source: what the columns were read from, for messages.
        columns: name -> n values.
        keys: names of the n samples, for messages.

    Raises:
        DataError: a column has samples without a value, one value only, or more values than `MOST_VALUES`.
    """
    assert columns, "no columns"
    parts = [_column(source, name, [value.strip() for value in values], keys) for name, values in columns.items()]
    return Concepts(
        tuple(name for names, _ in parts for name in names), np.concatenate([present for _, present in parts], axis=1)
    )


def select_columns(
    source: str, columns: Mapping[str, Mapping[str, str]], chosen: Sequence[str] | None
) -> Mapping[str, Mapping[str, str]]:
    """The chosen columns of a manifest, or all.

    Raises:
        UsageError: there is no such column.
    """
    if chosen is None:
        return columns
    for name in chosen:
        if name not in columns:
            there = f"it has {', '.join(columns)}" if columns else "it has none beside path, label and split"
            raise UsageError("--attributes", f"no column {name!r} in {source}", hint=there)
    return {name: columns[name] for name in chosen}


def gather_concepts(
    source: str,
    paths: Sequence[str],
    labels: Int[np.ndarray, " n"],
    classes: Sequence[str],
    attributes: Mapping[str, Mapping[str, str]],
) -> Concepts:
    """Classes and attributes of the images to fit, in the order of `paths`.

    Args:
        source: of the attributes, for messages.
        paths: keys of the n images.
        labels: (n,) class indices.
        classes: their names.
        attributes: column -> key -> text, as `ImageSet.attributes`.

    Raises:
        DataError: as `column_concepts`.
    """
    known = class_concepts(np.asarray(labels), classes)
    if not attributes:
        return known
    columns = {name: [values.get(path, "") for path in paths] for name, values in attributes.items()}
    return known.beside(column_concepts(source, columns, paths))


def _column(
    source: str, name: str, values: list[str], keys: Sequence[str] | None
) -> tuple[tuple[str, ...], Bool[np.ndarray, "n v"]]:
    """Names and columns of one attribute's concepts."""
    missing = [i for i, value in enumerate(values) if not value]
    if missing:
        first = f", the first is {keys[missing[0]]}" if keys else ""
        why = f"the column {name!r} has no value for {len(missing)} of {len(values)} images to fit{first}"
        raise DataError(source, why, hint=f"write a value of its own for it, such as none, {LEAVE_OUT}")
    values_seen = sorted(set(values))
    if len(values_seen) == 1:
        why = f"the column {name!r} is {values_seen[0]!r} for every image to fit, which teaches nothing"
        raise DataError(source, why, hint=f"give images with and without it, {LEAVE_OUT}")
    if len(values_seen) > MOST_VALUES:
        raise _too_many(source, name, values_seen)
    array = np.array(values)
    if {value.lower() for value in values_seen} in YES_NO and len(values_seen) == 2:
        yes = next(value for value in values_seen if value.lower() in YES)
        return (name,), (array == yes)[:, None]
    return tuple(f"{name}={value}" for value in values_seen), array[:, None] == np.array(values_seen)


def _too_many(source: str, name: str, values_seen: Sequence[str]) -> DataError:
    numbers = all(_is_number(value) for value in values_seen)
    kind = "numbers, it is a measurement" if numbers else "values"
    cure = "cut it into a few groups, such as low and high," if numbers else "group its values"
    why = f"the column {name!r} holds {len(values_seen)} different {kind}; a concept has at most {MOST_VALUES}"
    return DataError(source, why, hint=f"{cure} {LEAVE_OUT}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
