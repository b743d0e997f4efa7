"""One picture file, decoded defensively: known formats, a cap on pixels, no warnings let through."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from salve_audit.errors import DataError
from salve_audit.inputs.reasons import summarise_error

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MAX_PIXELS = 50_000_000  # below Pillow's own limit, which is for posters
ORIENTATION = 0x0112  # EXIF tag


def load_picture(path: str | Path, n_channels: int = 3) -> Image.Image:
    """The first frame of the picture, upright, in mode RGB (3 channels) or L (1 channel).

    Transparency is dropped, as torchvision's and timm's loaders do; 16-bit grey is scaled to 8 bits.

    Raises:
        DataError: the file is no picture of an allowed format, too large, truncated or otherwise damaged.
    """
    assert n_channels in (1, 3), f"pictures have 1 or 3 channels, not {n_channels}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd EXIF or palettes: the pixels are what counts
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as opened:
                return _decode(opened, "RGB" if n_channels == 3 else "L")
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise DataError(str(path), describe_picture_error(error)) from error


def _decode(opened: Image.Image, mode: str) -> Image.Image:
    if opened.width * opened.height > MAX_PIXELS:
        raise ValueError(f"{opened.width} x {opened.height} pixels, more than {MAX_PIXELS // 1_000_000} million")
    opened.load()
    upright = ImageOps.exif_transpose(opened) if opened.getexif().get(ORIENTATION, 1) != 1 else opened
    if upright.mode.startswith("I;16"):
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    if upright.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels (mode {upright.mode}) have no defined range")
    if upright.mode == "P" and "transparency" in upright.info:
        upright = upright.convert("RGBA")
    return upright.convert(mode) if upright.mode != mode else upright.copy()


def describe_picture_error(error: Exception) -> str:
    """The cause in a few words, without the path."""
    if isinstance(error, UnidentifiedImageError):
        return "not a picture in a known format"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"more than {MAX_PIXELS // 1_000_000} million pixels"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    if isinstance(error, ValueError) and "pixels" in str(error):
        return str(error)
    return f"damaged ({summarise_error(error)})"
