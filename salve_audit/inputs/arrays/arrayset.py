"""Named arrays to a fit part, an audit part and a head, each error with file, array, type and shape."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from salve_audit.errors import DataError
from salve_audit.inputs.arrays.array_file import read_arrays
from salve_audit.inputs.arrays.checks import LABELS, ArrayChecks, with_whole_labels
from salve_audit.inputs.labels.label import cut_label, describe_label, find_label, name_sides, require_label
from salve_audit.inputs.model.head.linear import LinearHead, fold_one_output
from salve_audit.inputs.splitting import draw_from_class, split_class

MAX_NAMED = 5
NAMES_HINT = (
    "expected acts, labels, weight, bias; or fit_acts, fit_labels, audit_acts, audit_labels, head_weight, head_bias"
)


@dataclass(frozen=True)
class ArraySplit:
    """Activations (n, d) float32, class indices (n,) int64 and n names of the samples."""

    acts: Float[np.ndarray, "n d"]
    labels: Int[np.ndarray, " n"]
    paths: tuple[str, ...]


@dataclass(frozen=True)
class ArraySet:
    """All that an audit needs, without a model.

    Attributes:
        path, sha256, format: the file.
        data_sha256: of activations and labels alone.
        fit, audit: the two parts.
        head: the final linear layer.
        classes: names in output order.
        layout: how the two parts came about, in words.
        notes: what the reader of a report should know.
    """

    path: Path
    sha256: str
    format: str
    data_sha256: str
    fit: ArraySplit
    audit: ArraySplit
    head: LinearHead
    classes: tuple[str, ...]
    layout: str
    notes: tuple[str, ...]


def load_arrays(path: Path, seed: int, limit: int | None = None, label: str | None = None) -> ArraySet:
    """The arrays in `path`: one set (acts, labels), split 60/40 per class, or two sets (fit_acts, audit_acts, ...).

    Args:
        path: a .npz or .safetensors file.
        seed: of the split, and of the choice under `limit`.
        limit: at most so many samples per class and part.
        label: audit this label against its absence; needed where labels are (samples, outputs) of 0 and 1.

    Raises:
        UsageError: labels do not exclude each other and none is chosen, or there is no such label.
        DataError: an array is missing, misshaped, not finite, or does not fit the others.
    """
    file = read_arrays(path)
    checks = ArrayChecks(with_whole_labels(file))
    weights, notes = _read_head(checks)
    notes = (*_describe_file(checks), *notes)
    classes = _read_classes(checks, weights)
    checks = checks.named_labels(classes, len(classes))
    chosen = _choose_label(checks, classes, label)
    head = weights if chosen is None else cut_label(weights, chosen)
    fit, audit, layout = _read_parts(checks, weights, chosen, seed)
    _check_same_classes(path, fit, audit)
    if limit is not None:
        fit, audit = (_choose(part, limit, seed, number) for number, part in ((1, fit), (2, audit)))
        layout += f", at most {limit} samples per class and part"
    return ArraySet(
        path=path,
        sha256=file.sha256,
        format=file.format,
        data_sha256=_hash_parts(fit, audit),
        fit=fit,
        audit=audit,
        head=head,
        classes=classes if chosen is None else name_sides(classes[chosen]),
        layout=layout,
        notes=notes if chosen is None else (*notes, describe_label(classes[chosen], chosen, len(classes))),
    )


def _describe_file(checks: ArrayChecks) -> Iterator[str]:
    """Notes on arrays that were not read, or read in a way that their maker may not expect."""
    unread = checks.file.unread
    if unread:
        more = f" and {len(unread) - MAX_NAMED} more" if len(unread) > MAX_NAMED else ""
        yield f"arrays of other names were not read: {', '.join(unread[:MAX_NAMED])}{more}"
    if checks.list_texts() and "class_names" not in checks.file.arrays:
        yield "the labels are texts: sorted they are taken as the outputs in order"
    if any(checks.is_one_hot(name) for name in LABELS):
        yield "the labels are one column per output with a single 1 in each row: taken as classes"


def _read_head(checks: ArrayChecks) -> tuple[LinearHead, tuple[str, ...]]:
    arrays = checks.file.arrays
    name = next((key for key in ("weight", "head_weight") if key in arrays), None)
    if name is None:
        raise DataError(str(checks.file.path), "has no array 'weight' or 'head_weight'", hint=NAMES_HINT)
    weight = checks.numbers(name, ndim=2, axes="classes x activations")
    acts = next((arrays[key] for key in ("acts", "fit_acts", "audit_acts") if key in arrays), None)
    if acts is not None and acts.ndim == 2 and weight.shape[1] != acts.shape[1] == weight.shape[0]:
        raise checks.refuse(name, f"looks transposed: expected (classes, activations), activations are {len(weight)}")
    bias_name = next((key for key in ("bias", "head_bias") if key in arrays), None)
    bias = np.zeros(len(weight), np.float32) if bias_name is None else checks.numbers(bias_name, ndim=1, axes="classes")
    if bias_name is not None and len(bias) != len(weight):
        raise checks.refuse(bias_name, f"expected ({len(weight)},) for {len(weight)} rows of {name!r}")
    notes = () if bias_name else ("the file has no bias; zeros were taken",)
    head = LinearHead(weight, bias, name)
    if len(weight) == 1:
        return fold_one_output(head), (*notes, "one output: its sign decides between class 0 and class 1")
    return head, notes


def _choose_label(checks: ArrayChecks, classes: tuple[str, ...], label: str | None) -> int | None:
    """The output to audit by itself, or None where classes exclude each other."""
    if label is not None:
        return find_label(label, classes)
    arrays = checks.file.arrays
    two_axes = [name for name in LABELS if name in arrays and arrays[name].ndim == 2]
    if not all(checks.is_one_hot(name) for name in two_axes):
        raise require_label(checks.file.path.name, classes)
    return None


def _read_parts(
    checks: ArrayChecks, head: LinearHead, label: int | None, seed: int
) -> tuple[ArraySplit, ArraySplit, str]:
    """The part to fit, the part to audit, and how they came about, in words."""
    path, arrays = checks.file.path, checks.file.arrays
    if "acts" in arrays:
        fit, audit = _split(path, _read_split(checks, head, "", label), seed)
        return fit, audit, f"one set of arrays, split 60/40 per class by seed {seed}"
    if "fit_acts" in arrays or "audit_acts" in arrays:
        fit, audit = (_read_split(checks, head, prefix, label) for prefix in ("fit_", "audit_"))
        return fit, audit, "fit_acts to fit, audit_acts to audit"
    names = ", ".join(arrays) or "none of the known names"
    raise DataError(str(path), f"has no activations (arrays: {names})", hint=NAMES_HINT)


def _read_split(checks: ArrayChecks, head: LinearHead, prefix: str, label: int | None) -> ArraySplit:
    acts = checks.numbers(f"{prefix}acts", ndim=2, axes="samples x activations")
    if acts.shape[1] != head.d:
        why = f"has {acts.shape[1]} activations a sample, {head.module!r} takes {head.d}"
        raise checks.refuse(f"{prefix}acts", why)
    labels = checks.labels(f"{prefix}labels", len(acts), head.n_classes, label)
    paths = checks.texts(f"{prefix}paths", len(acts))
    return ArraySplit(acts, labels, paths or tuple(f"{prefix}acts[{row}]" for row in range(len(acts))))


def _read_classes(checks: ArrayChecks, head: LinearHead) -> tuple[str, ...]:
    names = checks.texts("class_names", head.n_classes)
    if names is None:
        texts = checks.list_texts()
        if texts and len(texts) != head.n_classes:
            why = f"its labels are {len(texts)} different texts for {head.n_classes} rows of {head.module!r}"
            raise DataError(str(checks.file.path), why, hint="an array class_names gives the order of the outputs")
        return tuple(texts) or tuple(f"class {index}" for index in range(head.n_classes))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise checks.refuse("class_names", f"the name {twice!r} is there twice")
    return names


def _split(path: Path, whole: ArraySplit, seed: int) -> tuple[ArraySplit, ArraySplit]:
    """Splits the samples 60/40 per class; every class keeps a sample on both sides."""
    fit: list[np.ndarray] = []
    audit: list[np.ndarray] = []
    for label in np.unique(whole.labels):
        rows = np.flatnonzero(whole.labels == label)
        if len(rows) < 2:
            raise DataError(str(path), f"array 'labels': class {label} has one sample, too few for two parts")
        to_fit, to_audit = split_class(len(rows), seed, int(label))
        fit.append(rows[to_fit])
        audit.append(rows[to_audit])
    return _take(whole, np.sort(np.concatenate(fit))), _take(whole, np.sort(np.concatenate(audit)))


def _choose(part: ArraySplit, limit: int, seed: int, number: int) -> ArraySplit:
    """At most `limit` samples per class, drawn without replacement, kept in order."""
    chosen = []
    for label in np.unique(part.labels):
        rows = np.flatnonzero(part.labels == label)
        chosen.append(rows[draw_from_class(len(rows), limit, seed, number, int(label))])
    return _take(part, np.sort(np.concatenate(chosen)))


def _take(part: ArraySplit, rows: Int[np.ndarray, " r"]) -> ArraySplit:
    return ArraySplit(part.acts[rows], part.labels[rows], tuple(part.paths[row] for row in rows))


def _check_same_classes(path: Path, fit: ArraySplit, audit: ArraySplit) -> None:
    here, there = set(fit.labels.tolist()), set(audit.labels.tolist())
    for label in sorted(here ^ there):
        having, lacking = ("fit", "audit") if label in here else ("audit", "fit")
        raise DataError(str(path), f"class {label} is in {having}_labels but not in {lacking}_labels")
    if len(here) < 2:
        raise DataError(str(path), f"one class only ({here.pop()}), an audit needs two or more")


def _hash_parts(*parts: ArraySplit) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.acts.shape}".encode())
        digest.update(np.ascontiguousarray(part.acts).data)
        digest.update(np.ascontiguousarray(part.labels).data)
    return digest.hexdigest()
