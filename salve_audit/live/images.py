"""Images that are tensors already, as an `ImageSet` that the audit's stages read like any other."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.errors import DataError, OutputError, UsageError
from salve_audit.inputs.data.imageset import ImageSet, ImageSplit
from salve_audit.inputs.model.pixel_range import BYTE
from salve_audit.inputs.reasons import nearest_names
from salve_audit.inputs.splitting import draw_from_class, split_class
from salve_audit.live.colours import Shown, find_colours, read_moments
from salve_audit.live.samples import Batch, Given, find_classes, read_batches
from salve_audit.live.selection import limit_items
from salve_audit.results.transform import PREPARED, STORED, TransformSpec

HELD = 1024**3  # bytes of prepared images in memory; beyond them a temporary file holds all
FITTED = 16  # images that show how values become colours


@dataclass(frozen=True, eq=False)
class TensorSource:
    """Prepared images by key.

    Attributes:
        values: (n, c, h, w) float32, in memory or in a temporary file.
        rows: of each key.
    """

    values: np.ndarray = field(repr=False)
    rows: Mapping[str, int] = field(repr=False)

    @property
    def resident_bytes(self) -> int:
        """Bytes that a process would hold again."""
        return 0 if isinstance(self.values, np.memmap) else int(self.values.nbytes)

    def read(self, key: str) -> np.ndarray:
        """The prepared image `key`, (c, h, w) float32."""
        return np.array(self.values[self.rows[key]])


@dataclass(frozen=True)
class LiveImages:
    """Data that was read.

    Attributes:
        images: both splits; labels as the data has them.
        spec: size of the images, and how they are shown.
        notes: what the reader of a report should know.
        names: class names that the data has, or that its labels are; None: it has numbers alone.
    """

    images: ImageSet
    spec: TransformSpec
    notes: tuple[str, ...]
    names: tuple[str, ...] | None

    def first(self, n: int) -> Float[Tensor, "n c h w"]:
        """The first prepared images to audit."""
        return torch.from_numpy(np.stack([self.images.reader.read(key) for key in self.images.audit.paths[:n]]))


def read_images(
    fit: Given, audit: Given | None, shown: Shown, seed: int, limit: int | None, classes: Sequence[str] | None
) -> LiveImages:
    """Reads all data once, in its own order; what is random in it (augmentations) is kept as it was drawn.

    Args:
        fit: what the autoencoder may see.
        audit: what is measured on; None: 40 % of each class of `fit`.
        shown: how tensors become colours.
        seed: of the split and of the images taken under a limit.
        limit: of images per class and split.
        classes: names in output order, for labels that are names; None: the data's own.

    Raises:
        UsageError: mean, std or inverse do not fit the images.
        DataError: there are no images, or they cannot be used.
    """
    given = [fit] if audit is None else [fit, audit]
    names = tuple(classes) if classes is not None else find_classes(fit.data) or find_classes(given[-1].data)
    if limit is not None and audit is not None:
        given = [limit_items(part, limit, seed, place + 1) for place, part in enumerate(given)]
    store, splits = _Store(shown), []
    for part in given:
        paths, labels = store.add(part)
        if not paths:
            raise DataError(part.name, "holds no images")
        splits.append((paths, labels))
    numbers, names = _number_labels(splits, names)
    if audit is None:
        chosen = _divide(splits[0][0], numbers[0], seed)
        layout = "one data set, 60 % of each class to fit, the rest to audit"
    else:
        chosen = [ImageSplit(tuple(paths), tuple(own)) for (paths, _), own in zip(splits, numbers, strict=True)]
        layout = f"{fit.name} to fit, {audit.name} to audit"
    _check_classes(chosen, [part.name for part in given])
    if limit is not None:
        chosen = [_cut(split, limit, seed, part + 1) for part, split in enumerate(chosen)]
    source = store.finish()
    spec, notes = _find_spec(store, source, chosen[-1], [part.dataset for part in given])
    images = ImageSet(Path("live data"), (), chosen[0], chosen[-1], layout, source)
    return LiveImages(images, spec, notes, names)


class _Store:
    """Collects prepared images; beyond `HELD` bytes in a temporary file that is gone with the process."""

    def __init__(self, shown: Shown) -> None:
        self.shown, self.shape = shown, ()
        self._parts: list[np.ndarray] = []
        self._rows: dict[str, int] = {}
        self._file: Any = None
        self._n_bytes = 0

    def add(self, given: Given) -> tuple[list[str], list[int | str]]:
        """Keys and labels of all images of the data."""
        paths: list[str] = []
        labels: list[int | str] = []
        for batch in read_batches(given):
            values = self._prepare(given, batch)
            self._rows |= {name: len(self._rows) + row for row, name in enumerate(batch.names)}
            self._keep(values)
            paths += batch.names
            labels += batch.labels
        return paths, labels

    def finish(self) -> TensorSource:
        """All images."""
        if self._file is None:
            return TensorSource(np.concatenate(self._parts), self._rows)
        with self._file as stream:  # what is mapped stays after the file is closed
            stream.flush()
            values = np.memmap(stream, np.float32, "r", shape=(len(self._rows), *self.shape))
        return TensorSource(values, self._rows)

    def _prepare(self, given: Given, batch: Batch) -> np.ndarray:
        images = batch.images
        if images.ndim == 3:
            images = images[:, None]
        if images.ndim != 4 or 0 in images.shape:
            raise DataError(given.name, f"its images are {images.shape[1:]}, expected (channels, height, width)")
        if images.dtype.kind in "iub":
            images = self._scale(given, images)
        if images.dtype.kind != "f":
            raise DataError(given.name, f"its images are {images.dtype}, expected numbers")
        if not self.shape:
            self.shape = images.shape[1:]
        if images.shape[1:] != self.shape:
            why = f"its images are {images.shape[1:]}, those before {self.shape}"
            raise DataError(given.name, why, hint="resize them alike")
        if not np.isfinite(images).all():
            raise DataError(given.name, f"{batch.names[0]} or one near it holds NaN or infinite values")
        return np.ascontiguousarray(images, np.float32)

    def _scale(self, given: Given, images: np.ndarray) -> np.ndarray:
        """Bytes as the model takes them: 0..1, less the mean, by the standard deviation."""
        if self.shown.mean is None or self.shown.std is None:
            hint = "give mean and std, with which bytes are normalised, or tensors as the model takes them"
            raise UsageError(
                given.name, f"its images are {images.dtype}, and how the model takes them is not known", hint
            )
        if images.shape[-1] in (1, 3, 4) and images.shape[1] not in (1, 3, 4):
            images = images.transpose(0, 3, 1, 2)
        moments = read_moments(self.shown.mean, self.shown.std, images.shape[1])
        mean, std = (np.asarray(values, np.float32).reshape(1, -1, 1, 1) for values in (moments.mean, moments.std))
        return (images.astype(np.float32) / BYTE - mean) / std

    def _keep(self, values: np.ndarray) -> None:
        self._n_bytes += values.nbytes
        if self._file is None and self._n_bytes > HELD:
            self._file = tempfile.TemporaryFile(prefix="salve-audit-")  # noqa: SIM115  closed once it is mapped
            before, self._parts = self._parts, []
            for part in before:
                self._write(part)
        if self._file is None:
            self._parts.append(values)
        else:
            self._write(values)

    def _write(self, values: np.ndarray) -> None:
        try:
            self._file.write(values.data)
        except OSError as error:
            why = f"{self._n_bytes / 1024**3:.1f} GiB of images cannot be kept there ({error.strerror or error})"
            hint = "limit=N takes fewer images; TMPDIR names another folder"
            raise OutputError(tempfile.gettempdir(), why, hint=hint) from error


def _number_labels(
    splits: Sequence[tuple[list[str], list[int | str]]], names: tuple[str, ...] | None
) -> tuple[list[list[int]], tuple[str, ...] | None]:
    """Labels as numbers of classes; names become their places among the class names."""
    texts = sorted({label for _, labels in splits for label in labels if isinstance(label, str)})
    if not texts:
        return [[int(label) for label in labels] for _, labels in splits], names
    names = names if names is not None else tuple(texts)
    places = {name: index for index, name in enumerate(names)}
    unknown = next((text for text in texts if text not in places), None)
    if unknown is not None:
        near = nearest_names(unknown, names)
        raise DataError("labels", f"{unknown!r} is none of the classes", hint=f"nearest: {', '.join(near)}")
    return [[places[str(label)] if isinstance(label, str) else label for label in own] for _, own in splits], names


def _divide(paths: Sequence[str], labels: Sequence[int], seed: int) -> list[ImageSplit]:
    fit: list[int] = []
    audit: list[int] = []
    numbers = np.asarray(labels)
    for label in np.unique(numbers):
        rows = np.flatnonzero(numbers == label)
        if len(rows) < 2:
            raise DataError("train", f"class {label} has {len(rows)} image, too few to divide", hint="give val as well")
        to_fit, to_audit = split_class(len(rows), seed, int(label))
        fit, audit = [*fit, *rows[to_fit]], [*audit, *rows[to_audit]]
    return [_take(paths, labels, sorted(rows)) for rows in (fit, audit)]


def _check_classes(splits: Sequence[ImageSplit], names: Sequence[str]) -> None:
    """Checks that there are two classes to measure, and images to fit of each."""
    fit, audit = (sorted(set(split.labels)) for split in splits)
    if len(audit) < 2:
        raise DataError(names[-1], f"one class only ({audit[0]}), an audit needs two or more")
    lacking = next((label for label in audit if label not in fit), None)
    if lacking is not None:
        raise DataError(names[-1], f"class {lacking} is in {names[-1]} and not in {names[0]}")


def _cut(split: ImageSplit, limit: int, seed: int, part: int) -> ImageSplit:
    labels = np.asarray(split.labels)
    rows: list[int] = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        rows += own[draw_from_class(len(own), limit, seed, part, int(label))].tolist()
    return _take(split.paths, split.labels, sorted(rows))


def _take(paths: Sequence[str], labels: Sequence[int], rows: Sequence[int]) -> ImageSplit:
    return ImageSplit(tuple(paths[row] for row in rows), tuple(int(labels[row]) for row in rows))


def _find_spec(
    store: _Store, source: TensorSource, split: ImageSplit, datasets: Sequence[Any]
) -> tuple[TransformSpec, tuple[str, ...]]:
    """Size of the images, and the scale and shift by which they are shown, with what is to be said of it."""
    c, h, w = source.values.shape[1:]
    first = np.stack([source.read(key) for key in split.paths[:FITTED]])
    colours = find_colours(store.shown, first, datasets)
    notes = list(colours.notes)
    if c not in (1, 3):
        notes.append(f"images have {c} channels; the first {'three' if c > 3 else 'one'} of them are shown")
    spec = TransformSpec(
        input_size=(c, h, w),
        mean=tuple(map(float, colours.mean)),
        std=tuple(map(float, colours.std)),
        interpolation=PREPARED,
        crop_pct=1.0,
        source=f"images were given prepared; mean, std: {colours.source}",
        orientation=STORED,
    )
    return spec, tuple(notes)


def with_classes(live: LiveImages, classes: tuple[str, ...], mapping: str) -> LiveImages:
    """The images with one class name per output.

    Raises:
        DataError: a label is no output.
    """
    n, images = len(classes), live.images
    for split, purpose in ((images.fit, "to fit"), (images.audit, "to audit")):
        worst = next((label for label in split.labels if not 0 <= label < n), None)
        if worst is not None:
            raise DataError("labels", f"an image {purpose} has the label {worst}, the model has outputs 0 to {n - 1}")
    used = sorted({*images.fit.labels, *images.audit.labels})
    pairs = tuple((classes[label], label) for label in used)
    return replace(live, images=replace(images, classes=classes, mapping=mapping, pairs=pairs))
