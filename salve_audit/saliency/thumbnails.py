"""Images at the size at which a report shows them: what the network saw, not the file it came from.

Only pixels go in, so nothing of a file's metadata can come out.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from salve_audit.results import Thumbnail

SIDE = 96  # pixels of the longer side; small images are enlarged to it, smoothly: blocks hide what they show
QUALITY = 55


def to_display_pixels(
    images: Float[np.ndarray, "b c h w"], mean: Sequence[float], std: Sequence[float]
) -> UInt8[np.ndarray, "b h w 3"]:
    """Prepared images back in colours: the transform's normalisation undone.

    One or two channels are shown as the first in grey, more than three as the first three.
    """
    shape = (1, -1, 1, 1)
    colours = images * np.asarray(std, np.float32).reshape(shape) + np.asarray(mean, np.float32).reshape(shape)
    pixels = np.rint(np.clip(np.nan_to_num(colours), 0.0, 1.0) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return as_colours(pixels)


def as_colours(pixels: np.ndarray) -> np.ndarray:
    """(..., 3) of (..., c): one or two channels are the first in grey, more than three the first three."""
    shown = pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., :1]
    return np.ascontiguousarray(np.broadcast_to(shown, (*pixels.shape[:-1], 3)))


def fit_side(height: int, width: int, side: int = SIDE) -> tuple[int, int]:
    """(height, width) scaled so that the longer one is `side`."""
    scale = side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_pixels(pixels: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "s t 3"]:
    """The image at `size`, (height, width)."""
    resized = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.LANCZOS)
    return np.asarray(resized)


def resize_heat(heat: Float[np.ndarray, "h w"], size: tuple[int, int]) -> Float[np.ndarray, "s t"]:
    """A map at `size`, linear between its values, which are never exceeded."""
    resized = Image.fromarray(heat.astype(np.float32)).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(resized)


def encode_image(pixels: UInt8[np.ndarray, "h w 3"]) -> Thumbnail:
    """A JPEG of these very pixels; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return Thumbnail(pixels.shape[1], pixels.shape[0], base64.b64encode(buffer.getvalue()).decode("ascii"))
