"""Warning of small images that are enlarged to a default size: the accuracy may be far from the model's own."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from salve_audit.inputs.data.decoding import FORMATS
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.inputs.data.sources.source import Content
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.formats.sidecar import sidecar_of

LOOKED_AT = 8  # images
FACTOR = 2  # smaller than the input by so much


def describe_enlarged(classifier: Classifier, images: ImageSet) -> str | None:
    """A warning where the images are far smaller than an input size that is only the architecture's default."""
    size, source = classifier.transform.input_size, classifier.transform.source
    if "default" not in _source_of_size(source):
        return None
    sides = [side for key in images.audit.paths[:LOOKED_AT] if (side := _read_side(images, key)) is not None]
    if not sides or FACTOR * max(sides) > max(size[1:]):
        return None
    beside = sidecar_of(classifier.path).name
    return (
        f"The images ({max(sides)} pixels at most) are enlarged to {size[1]} x {size[2]}, the architecture's "
        f"default: a model that was trained on small images needs its own size, in {beside} beside it "
        "(input_size, mean, std, ...)."
    )


def _source_of_size(source: str) -> str:
    """The source of the input size in ``input size, crop: SOURCE; mean: OTHER``, or the single source of all."""
    parts = [part.partition(": ") for part in source.split("; ")]
    return next((where for names, _, where in parts if "input size" in names), source if len(parts) == 1 else "")


def _read_side(images: ImageSet, key: str) -> int | None:
    """Reads the longer side of an image from its header."""
    try:
        return _measure(images.reader.read(key))
    except Exception:  # what cannot be read is named by the pass
        return None


def _measure(content: Content) -> int:
    if isinstance(content, np.ndarray):
        return max(content.shape[:2])
    with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
        return max(opened.size)
