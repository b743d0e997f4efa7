"""Class folders against a model's outputs: which output is which class."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

from salve_audit.errors import DataError
from salve_audit.inputs.imageset import ImageSet, ImageSplit

logger = logging.getLogger(__name__)


def match_classes(imageset: ImageSet, n_outputs: int, class_names: Sequence[str] | None = None) -> ImageSet:
    """The image set with its labels turned into the model's output indices.

    Folders sorted by name are the outputs in order; where the checkpoint names its outputs, and these are the
    folders' names, the names decide.

    Raises:
        DataError: the numbers of classes and outputs differ; shows both.
    """
    n_classes = len(imageset.classes)
    if n_classes != n_outputs:
        missing = sorted(set(class_names or ()) - set(imageset.classes))
        hint = "one class folder per output is needed, in the outputs' order when sorted by name"
        if missing:
            hint = f"no folder for {', '.join(missing[:5])}{' and others' if len(missing) > 5 else ''}"
        why = f"{n_classes} class folders, but the model has {n_outputs} outputs"
        raise DataError(str(imageset.root), why, hint=hint)
    if class_names is None or list(class_names) == list(imageset.classes):
        return imageset
    if sorted(class_names) != sorted(imageset.classes):
        logger.warning("the checkpoint's class names are not the folders'; matched by order, sorted by name")
        return imageset
    output_of = {name: index for index, name in enumerate(class_names)}
    new_label = [output_of[name] for name in imageset.classes]
    return dataclasses.replace(
        imageset,
        classes=tuple(class_names),
        fit=_relabel(imageset.fit, new_label),
        audit=_relabel(imageset.audit, new_label),
    )


def _relabel(split: ImageSplit, new_label: Sequence[int]) -> ImageSplit:
    return ImageSplit(split.paths, tuple(new_label[label] for label in split.labels))
