"""Where the object is in an image, from the columns ``mask`` and ``bbox`` of a manifest, prepared as the image is.

A mask is an image file beside the images, zero outside the object. A box is four numbers in pixels, ``left top right
bottom``, or, where a column has one that cannot be that, ``left top width height``.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from salve_audit.errors import DataError
from salve_audit.inputs.data.decoding import FORMATS, decode_image
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.inputs.data.sources.source import FolderSource, ImageSource
from salve_audit.inputs.model.transform import build_transform
from salve_audit.inputs.names import check_relative
from salve_audit.results.transform import UPRIGHT, TransformSpec

MASK, BOX = "mask", "bbox"
COLUMNS = (MASK, BOX)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class ObjectMasks:
    """What says where objects are.

    Attributes:
        column: ``mask`` or ``bbox``.
        texts: by key of the image, a file or four numbers.
        source: reads images and masks.
        has_sizes: boxes give width and height in place of right and bottom.
    """

    column: str
    texts: Mapping[str, str]
    source: ImageSource
    has_sizes: bool = False

    def preparer(self, spec: TransformSpec) -> Callable[[str], Float[Tensor, "1 h w"] | None]:
        """``prepare(key)``: an image's mask as the network would see it, 0 to 1; None: there is none to be read."""
        transform = build_transform(spec)
        n_channels = spec.input_size[0]
        low, span = -torch.tensor(spec.mean) / torch.tensor(spec.std), 1 / torch.tensor(spec.std)

        def prepare(key: str) -> Float[Tensor, "1 h w"] | None:
            try:
                drawn = self._draw(key, spec.orientation == UPRIGHT)
            except (DataError, OSError, ValueError):
                return None
            if drawn is None:
                return None
            prepared = transform(drawn.convert("RGB" if n_channels == 3 else "L"))
            return ((prepared[:1] - low[0]) / span[0]).clamp(0, 1)

        return prepare

    def _draw(self, key: str, is_upright: bool) -> Image.Image | None:
        """The mask at the image's own size: 255 on the object."""
        text = self.texts.get(key, "").strip()
        if not text:
            return None
        if self.column == BOX:
            return self._draw_box(key, text)
        name = check_relative(text)
        if isinstance(self.source, FolderSource) and os.path.islink(self.source.root / name):
            raise ValueError("is a link")
        values = np.asarray(decode_image(self.source.read(name), name, 1, is_upright=is_upright))
        return Image.fromarray(((values > 0) * 255).astype(np.uint8))

    def _draw_box(self, key: str, text: str) -> Image.Image | None:
        numbers = [float(number) for number in _NUMBER.findall(text)]
        content = self.source.read(key)
        if len(numbers) != 4:
            return None
        if isinstance(content, np.ndarray):
            size = (content.shape[1], content.shape[0])
        else:
            with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
                size = opened.size
        left, top, right, bottom = numbers
        if self.has_sizes:
            right, bottom = left + right, top + bottom
        drawn = Image.new("L", size)
        if right > left and bottom > top:
            ImageDraw.Draw(drawn).rectangle((left, top, right - 1, bottom - 1), fill=255)
        return drawn


def find_masks(images: ImageSet) -> ObjectMasks | None:
    """The masks of an image set, else its boxes; None: it has neither column."""
    for column in COLUMNS:
        name = next((name for name in images.attributes if name.strip().casefold() == column), None)
        if name is not None and any(images.attributes[name].values()):
            texts = images.attributes[name]
            return ObjectMasks(column, texts, images.reader, column == BOX and _has_sizes(texts))
    return None


def _has_sizes(texts: Mapping[str, str]) -> bool:
    for text in texts.values():
        numbers = [float(number) for number in _NUMBER.findall(text)]
        if len(numbers) == 4 and (numbers[2] <= numbers[0] or numbers[3] <= numbers[1]):
            return True
    return False
