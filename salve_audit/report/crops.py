"""The part of an image that shows a thing: where the outlined image and the one without it differ."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from salve_audit.results import ConceptImage, Thumbnail
from salve_audit.results.reviewable import Reviewable

if TYPE_CHECKING:
    from PIL import Image

DIFFERS = 40  # of 255, beyond what the compression of two JPEGs does
MARGIN = 0.12  # of the longer side, around the thing
LEAST = 0.3  # of the longer side: a smaller crop shows no surroundings
MOST = 0.75  # beyond which the whole image is shown
QUALITY = 88
REVIEWED_SIDE, REVIEWED_QUALITY = 96, 80  # of a crop that a review file holds


def crop_thing(image: ConceptImage) -> Thumbnail:
    """A square around the thing, outline included; the whole image where it is spread over it or cannot be read."""
    from PIL import Image, ImageChops

    try:
        outlined, without = (_decode(part) for part in (image.outlined, image.without))
    except (OSError, ValueError, Image.DecompressionBombError):
        return image.outlined
    if outlined.size != without.size:
        return image.outlined
    difference = ImageChops.difference(outlined, without).convert("L").point(lambda v: 255 if v > DIFFERS else 0)
    bounds = difference.getbbox()
    square = None if bounds is None else _square(bounds, outlined.size)
    if square is None:
        return image.outlined
    buffer = io.BytesIO()
    outlined.crop(square).save(buffer, "JPEG", quality=QUALITY)
    side = square[2] - square[0]
    return Thumbnail(side, side, base64.b64encode(buffer.getvalue()).decode("ascii"))


def crop_reviewed(thing: Reviewable) -> Thumbnail | None:
    """A small crop of what a class depends on, for the review; None: there is no image of it."""
    from PIL import Image

    if thing.concept is None or not thing.concept.images:
        return None
    crop = crop_thing(thing.concept.images[0])
    try:
        image = _decode(crop)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    image.thumbnail((REVIEWED_SIDE, REVIEWED_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=REVIEWED_QUALITY)
    return Thumbnail(*image.size, base64.b64encode(buffer.getvalue()).decode("ascii"))


def _decode(image: Thumbnail) -> Image.Image:
    from PIL import Image

    return Image.open(io.BytesIO(base64.b64decode(image.jpeg, validate=True)), formats=("JPEG",)).convert("RGB")


def _square(bounds: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The square crop around `bounds` within an image; None where that is most of it."""
    left, top, right, bottom = bounds
    longest, shortest = max(size), min(size)
    side = round(max(max(right - left, bottom - top) + 2 * MARGIN * longest, LEAST * longest))
    if side > MOST * shortest:
        return None
    x = min(max(0, (left + right - side) // 2), size[0] - side)
    y = min(max(0, (top + bottom - side) // 2), size[1] - side)
    return (x, y, x + side, y + side)
