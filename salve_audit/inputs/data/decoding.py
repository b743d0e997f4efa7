"""One image, decoded defensively: known formats, a cap on pixels, no warnings let through.

Transparency is dropped, not composited: the colours behind it show, as in torchvision's and timm's loaders, which is
what networks are trained on.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from salve_audit.errors import DataError
from salve_audit.inputs.data.sources.source import Content
from salve_audit.inputs.foreign import HEAD_BYTES, describe_placeholder
from salve_audit.inputs.reasons import summarise_error

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
MAX_PIXELS = 50_000_000  # decoded; below Pillow's own limit, which is for posters
MAX_ASPECT = 1000  # a line of pixels would be enlarged to an image of that many times its width
ORIENTATION = 0x0112  # EXIF tag
DRAFT = 4  # a JPEG is decoded at a half, quarter or eighth where that leaves so many pixels per pixel shown
# what Pillow says of files whose pixels are in order; every other warning counts as damage
HARMLESS = (
    "Palette images with Transparency",
    "Couldn't allocate palette entry",
    "Possibly corrupt EXIF",
    "Corrupt EXIF data",
    "Image appears to be a malformed MPO file",
    "Metadata Warning",
)


def decode_image(
    content: Content, name: str, n_channels: int = 3, shown_side: int | None = None, is_upright: bool = False
) -> Image.Image:
    """The first frame of the image in mode RGB (3 channels) or L (1 channel).

    Transparency is dropped; 16-bit grey is scaled to 8 bits.

    Args:
        content: an encoded image, or pixels (h, w) or (h, w, c) of uint8 with 1, 3 or 4 channels.
        name: for messages.
        n_channels: 1 or 3.
        shown_side: longest side in pixels that the transform scales it to. A JPEG that is far larger is decoded at a
            fraction of its size, from the low frequencies, which is faster and needs less memory.
        is_upright: turn it by its EXIF orientation, which torchvision's and timm's loaders ignore.

    Raises:
        DataError: no image of an allowed format, too large, truncated or otherwise damaged.
    """
    assert n_channels in (1, 3), f"images have 1 or 3 channels, not {n_channels}"
    mode = "RGB" if n_channels == 3 else "L"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for text in HARMLESS:
                warnings.filterwarnings("ignore", text)
            if isinstance(content, np.ndarray):
                return _from_pixels(content).convert(mode)
            with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
                return _decode(opened, mode, shown_side, is_upright)
    except Exception as error:  # decoders raise nearly anything on damaged files
        placeholder = describe_placeholder(content[:HEAD_BYTES]) if isinstance(content, bytes) else None
        why = describe_image_error(error) if placeholder is None else placeholder.what
        raise DataError(name, why, hint=None if placeholder is None else placeholder.remedy) from error


def _from_pixels(pixels: np.ndarray) -> Image.Image:
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    _check_size(pixels.shape[1], pixels.shape[0])
    return Image.fromarray(np.ascontiguousarray(pixels))


def _decode(opened: Image.Image, mode: str, shown_side: int | None, is_upright: bool) -> Image.Image:
    if shown_side is not None and opened.format in ("JPEG", "MPO"):  # MPO: a JPEG with a depth map
        opened.draft(None, (DRAFT * shown_side, DRAFT * shown_side))
    _check_size(opened.width, opened.height)
    opened.load()
    is_turned = is_upright and opened.getexif().get(ORIENTATION, 1) != 1
    image = ImageOps.exif_transpose(opened) if is_turned else opened
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "I" and opened.format == "PPM":  # Pillow scales 16 bits to 0..65535 there
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels (mode {image.mode}) have no defined range")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(mode) if image.mode != mode else image.copy()


def read_orientation(content: Content) -> int:
    """The EXIF orientation of an encoded image, from its header; 1 where it is upright or says nothing.

    Raises:
        Exception: whatever a decoder raises on a damaged file.
    """
    if isinstance(content, np.ndarray):
        return 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            return int(opened.getexif().get(ORIENTATION, 1))


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels, more than {MAX_PIXELS // 1_000_000} million")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ValueError(f"{width} x {height} pixels, a side is over {MAX_ASPECT} times the other")


def describe_image_error(error: Exception) -> str:
    """The cause in a few words, without the path."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image in a known format"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"more than {MAX_PIXELS // 1_000_000} million pixels"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    if isinstance(error, ValueError) and "pixels" in str(error):
        return str(error)
    return f"damaged ({summarise_error(error)})"
