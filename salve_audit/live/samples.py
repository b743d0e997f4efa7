"""Images and labels out of whatever holds them: a Dataset, a DataLoader, arrays, or anything that gives batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from salve_audit.errors import DataError, SalveError, UsageError
from salve_audit.inputs.reasons import summarise_error

IMAGE_KEYS = ("pixel_values", "image", "images", "x", "img", "data", "inputs")
LABEL_KEYS = ("label", "labels", "y", "target", "targets", "fine_label")
HINT = "give a Dataset of (image, label), a DataLoader, or (images, labels) as arrays: images (n, c, h, w)"
FILES = (
    "torchvision.datasets.ImageFolder(FOLDER, transform) reads a folder for a module; "
    "of a checkpoint and a folder, run_audit(AuditConfig(model=PATH, data=FOLDER))"
)
Transform = Callable[[Any], Any]


class Batch(NamedTuple):
    """Images (b, c, h, w), labels of each (whole numbers or names), and the names of the images."""

    images: np.ndarray
    labels: list[int | str]
    names: list[str]


@dataclass(frozen=True)
class Given:
    """Data as the caller gave it.

    Attributes:
        name: of the argument, for messages and in the names of images: ``train`` or ``val``.
        data: a Dataset, a DataLoader, (images, labels), a mapping of these, or an iterable of batches.
        transform: from what the data holds to a tensor (c, h, w); None: it holds these.
    """

    name: str
    data: Any
    transform: Transform | None = None

    @property
    def dataset(self) -> Any:
        """What the data is read from."""
        return self.data.dataset if isinstance(self.data, DataLoader) else self.data


def read_batches(given: Given) -> Iterator[Batch]:
    """All of the data, in its own order.

    Raises:
        UsageError: it is of an unknown kind.
        DataError: an item is no image with a label, or cannot be read.
    """
    if isinstance(given.data, (str, bytes, Path)):
        raise UsageError(given.name, f"is a path ({str(given.data)!r}), expected images with labels", hint=FILES)
    pair = _as_arrays(given.data)
    if pair is not None:
        yield from _read_arrays(given, *pair)
    elif isinstance(given.data, DataLoader):
        yield from _number(given, _read_loader(given))
    elif hasattr(given.data, "__getitem__") and hasattr(given.data, "__len__"):
        names = name_items(given.data)
        for index in range(len(given.data)):
            item = _fetch(given, index)
            batch, name = _read_item(given, item, index), names[index] if names is not None else f"{index:06d}"
            n = len(batch.labels)  # above 1 in a list of batches
            own = [name] if n == 1 else [f"{name}-{row:04d}" for row in range(n)]
            yield batch._replace(names=[f"{given.name}/{part}" for part in own])
    elif isinstance(given.data, Iterable):
        yield from _number(given, (_read_item(given, item, place) for place, item in enumerate(given.data)))
    else:
        raise UsageError(given.name, f"{type(given.data).__name__} holds no images with labels", hint=HINT)


def name_items(dataset: Any) -> list[str] | None:
    """The files of a folder dataset below its root, also through Subset; None: they are not known, or not distinct."""
    inner = getattr(dataset, "dataset", None)
    if inner is not None and hasattr(dataset, "indices"):
        names = name_items(inner)
        return None if names is None else [names[int(index)] for index in dataset.indices]
    samples, root = getattr(dataset, "samples", None), getattr(dataset, "root", None)
    if not isinstance(samples, list) or not isinstance(root, (str, Path)) or len(samples) != len(dataset):
        return None
    try:
        names = [Path(sample[0]).relative_to(root).as_posix() for sample in samples]
    except (TypeError, ValueError, IndexError, KeyError):
        return None
    return names if len(set(names)) == len(names) else None


def find_classes(data: Any) -> tuple[str, ...] | None:
    """The class names that a dataset has: torchvision's ``classes``, or the ``features`` of Hugging Face's."""
    for _ in range(8):  # Subset of Subset ...
        classes = getattr(data, "classes", None)
        if isinstance(classes, (list, tuple)) and classes and all(isinstance(name, str) for name in classes):
            return tuple(classes)
        features = getattr(data, "features", None)
        if isinstance(features, Mapping):
            for key in LABEL_KEYS:
                names = getattr(features.get(key), "names", None)
                if names:
                    return tuple(map(str, names))
        data = getattr(data, "dataset", None)
        if data is None:
            break
    return None


def _as_arrays(data: Any) -> tuple[Any, Any] | None:
    if isinstance(data, Mapping):
        images = next((data[key] for key in IMAGE_KEYS if key in data), None)
        labels = next((data[key] for key in LABEL_KEYS if key in data), None)
        return None if images is None or labels is None else (images, labels)
    is_pair = isinstance(data, (tuple, list)) and len(data) == 2 and isinstance(data[0], (np.ndarray, Tensor))
    if is_pair and data[0].ndim >= 3 and np.ndim(data[1]) >= 1:
        return data[0], data[1]
    return (data[0], data[1]) if _are_lists(data) else None


def _are_lists(data: Any) -> bool:
    """Whether it is a list of images and as long a list of labels, not two items or two batches."""
    if not isinstance(data, (tuple, list)) or len(data) != 2 or not isinstance(data[0], (tuple, list)) or not data[0]:
        return False
    images, labels = data
    if not all(isinstance(image, (np.ndarray, Tensor)) and image.ndim in (2, 3) for image in images):
        return False
    if isinstance(labels, (tuple, list)):
        return all(isinstance(label, str) or np.ndim(label) == 0 for label in labels)
    return not isinstance(labels, str) and np.ndim(labels) in (1, 2)


def _read_arrays(given: Given, images: Any, labels: Any) -> Iterator[Batch]:
    if len(images) != len(labels):
        raise DataError(given.name, f"{len(images)} images and {len(labels)} labels")
    width = len(str(max(len(images) - 1, 0)))
    for start in range(0, len(images), 256):
        part = images[start : start + 256]
        batch = _to_batch(given, part, labels[start : start + 256], start)
        yield batch._replace(names=[f"{given.name}/{row:0{width}}" for row in range(start, start + len(part))])


def _read_loader(given: Given) -> Iterator[Batch]:
    """The loader's batches; its own generator is put back."""
    generator = given.data.generator
    state = None if generator is None else generator.get_state()
    try:
        with contextlib.suppress(AttributeError):
            if generator is not None:
                generator.manual_seed(0)  # the same order every time
        batches = iter(given.data)
        place = 0
        while True:
            try:
                item = next(batches, None)
            except SalveError:
                raise
            except Exception as error:  # the dataset's own code
                raise DataError(given.name, f"batch {place} cannot be read ({summarise_error(error)})") from error
            if item is None:
                return
            yield _read_item(given, item, place)
            place += 1
    finally:
        if generator is not None:
            generator.set_state(state)


def _number(given: Given, batches: Iterable[Batch]) -> Iterator[Batch]:
    n = 0
    for batch in batches:
        yield batch._replace(names=[f"{given.name}/{n + row:06d}" for row in range(len(batch.labels))])
        n += len(batch.labels)


def _fetch(given: Given, index: int) -> Any:
    try:
        return given.data[index]
    except Exception as error:  # the dataset's own code
        raise DataError(given.name, f"item {index} cannot be read ({summarise_error(error)})") from error


def _read_item(given: Given, item: Any, place: int) -> Batch:
    """One item or one batch: where the label is a single one, the image is."""
    if isinstance(item, Mapping):
        image = next((item[key] for key in IMAGE_KEYS if key in item), None)
        label = next((item[key] for key in LABEL_KEYS if key in item), None)
    elif isinstance(item, Sequence) and not isinstance(item, str) and len(item) >= 2:
        image, label = item[0], item[1]
    else:
        image = label = None
    if image is None or label is None:
        raise DataError(given.name, f"item {place} is a {type(item).__name__}, expected (image, label)", hint=HINT)
    if isinstance(label, str) or np.ndim(label) == 0:
        return _to_batch(given, [image], [label], place)
    if given.transform is not None and not isinstance(image, (np.ndarray, Tensor)) and not isinstance(image, Sequence):
        raise DataError(given.name, f"item {place} has {len(label)} labels for one image")
    return _to_batch(given, image, label, place)


def _to_batch(given: Given, images: Any, labels: Any, place: int) -> Batch:
    if given.transform is not None:
        images = [_transform(given, image, place) for image in images]
    arrays = [_to_array(given, image, place) for image in images] if isinstance(images, (list, tuple)) else images
    try:
        stacked = np.stack(arrays) if isinstance(arrays, list) else _to_array(given, arrays, place)
    except ValueError as error:
        shapes = " and ".join(sorted({str(array.shape) for array in arrays})[:3])
        raise DataError(given.name, f"its images have several shapes: {shapes}", hint="resize them alike") from error
    return Batch(stacked, _read_labels(given, labels, len(stacked), place), [])


def _transform(given: Given, image: Any, place: int) -> Any:
    assert given.transform is not None, "there is a transform"
    try:
        return given.transform(image)
    except Exception as error:  # the caller's own code
        raise DataError(given.name, f"the transform fails on item {place} ({summarise_error(error)})") from error


def _to_array(given: Given, image: Any, place: int) -> np.ndarray:
    if isinstance(image, Tensor):
        plain = image.detach().cpu()
        return np.asarray(plain.float() if plain.is_floating_point() else plain)
    if isinstance(image, np.ndarray):
        return image
    kind = type(image).__name__
    hint = "images are tensors (c, h, w) as the model takes them; transform=... turns anything else into one"
    raise DataError(given.name, f"the image of item {place} is a {kind}, no tensor", hint=hint)


def _read_labels(given: Given, labels: Any, n: int, place: int) -> list[int | str]:
    values = torch.as_tensor(labels).cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and (values.sum(1) == 1).all() and ((values == 0) | (values == 1)).all():
        values = values.argmax(1)
    whole = values.dtype.kind in "iub" or (values.dtype.kind == "f" and bool((values == np.round(values)).all()))
    if values.shape != (n,) or not (whole or values.dtype.kind == "U"):
        what = f"{values.dtype} {values.shape}"
        why = f"the labels of item {place} are {what}, expected one class for each of {n} images"
        raise DataError(given.name, why, hint="numbers of outputs, names out of classes, or rows with a single 1")
    return [str(value) for value in values] if values.dtype.kind == "U" else [int(value) for value in values]
