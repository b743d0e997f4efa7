"""Properties of one image file that may give its class away: size, light, colour, sharpness, noise, border, encoding.

What depends on scale is measured at about the size that a network sees, so that a large image is not sharper for it.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Float
from PIL import Image

from salve_audit.inputs.data.decoding import FORMATS, decode_image
from salve_audit.inputs.data.sources.source import Content

SEEN = 256  # pixels of the longer side, at most
BORDER = 16  # the side over the width of the border
TINY = 1e-6
# property -> kind of the global factors that act on it; none acts on what is empty here
KINDS: Mapping[str, str] = MappingProxyType(
    {
        "width": "",
        "height": "",
        "aspect ratio": "",
        "file size per pixel": "",
        "JPEG": "",
        "JPEG quality": "compression",
        "brightness": "colour",
        "contrast": "colour",
        "saturation": "colour",
        "red against green": "colour",
        "blue against yellow": "colour",
        "sharpness": "sharpness",
        "noise": "noise",
        "border brightness": "border",
        "border contrast": "border",
        "dark corners": "mean field",
    }
)
PROPERTIES = tuple(KINDS)
# the first two rows of the standard's table of luminance at quality 50
_QUALITY_50 = (16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55)


def measure_properties(content: Content, name: str) -> Float[np.ndarray, " p"]:
    """All properties of one image, in the order of `PROPERTIES`; NaN where one has no meaning (JPEG quality of a PNG).

    Raises:
        DataError: it cannot be decoded.
    """
    width, height, is_jpeg, quality = _read_header(content)
    image = decode_image(content, name, shown_side=SEEN)
    width, height = width or image.width, height or image.height
    n_bytes = len(content) if isinstance(content, bytes) else math.nan
    shown = _shrink(image)
    values: dict[str, float] = {
        "width": float(width),
        "height": float(height),
        "aspect ratio": width / height,
        "file size per pixel": n_bytes / (width * height),
        "JPEG": float(is_jpeg),
        "JPEG quality": quality,
        **_measure_pixels(np.asarray(shown, dtype=np.float32) / 255),
    }
    return np.array([values[key] for key in PROPERTIES])


def _read_header(content: Content) -> tuple[int, int, bool, float]:
    """Width and height as encoded, whether it is a JPEG, and of what quality; zeros where it is no file."""
    if isinstance(content, np.ndarray):
        return 0, 0, False, math.nan
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
                is_jpeg = opened.format in ("JPEG", "MPO")
                tables = getattr(opened, "quantization", None) if is_jpeg else None
                return opened.width, opened.height, is_jpeg, estimate_quality(tables)
    except Exception:  # decoders raise nearly anything; `decode_image` says it in words
        return 0, 0, False, math.nan


def estimate_quality(tables: Mapping[int, list[int]] | None) -> float:
    """The quality (1 to 100) of a JPEG by its table of luminance, as libjpeg scales the standard's; NaN without one."""
    if not tables or not tables.get(0):
        return math.nan
    scale = float(np.median([100 * own / standard for own, standard in zip(tables[0], _QUALITY_50, strict=False)]))
    return min(100.0, (200 - scale) / 2 if scale <= 100 else 5000 / scale)


def _shrink(image: Image.Image) -> Image.Image:
    if max(image.size) <= SEEN:
        return image
    scale = SEEN / max(image.size)
    sides = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
    return image.resize(sides, Image.Resampling.BOX, reducing_gap=2.0)


def _measure_pixels(pixels: Float[np.ndarray, "h w 3"]) -> dict[str, float]:
    red, green, blue = (pixels[:, :, channel] for channel in range(3))
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    contrast = float(grey.std())
    inner, outer = _split_border(grey)
    return {
        "brightness": float(grey.mean()),
        "contrast": contrast,
        "saturation": float((pixels.max(2) - pixels.min(2)).mean()),
        "red against green": float((red - green).mean()),
        "blue against yellow": float((blue - (red + green) / 2).mean()),
        "sharpness": _measure_sharpness(grey, contrast),
        "noise": _measure_noise(grey),
        "border brightness": float(outer.mean() - inner.mean()),
        "border contrast": float(outer.std()),
        "dark corners": _measure_corners(grey),
    }


def _split_border(grey: Float[np.ndarray, "h w"]) -> tuple[np.ndarray, np.ndarray]:
    """The pixels inside and those of the border."""
    width = max(1, max(grey.shape) // BORDER)
    is_inside = np.zeros(grey.shape, bool)
    is_inside[width:-width, width:-width] = True
    if not is_inside.any():
        return grey.ravel(), grey.ravel()
    return grey[is_inside], grey[~is_inside]


def _measure_sharpness(grey: Float[np.ndarray, "h w"], contrast: float) -> float:
    """Mean step between pixels over that between pixels two apart: near 1 where edges are abrupt, half where smooth."""
    if min(grey.shape) < 3 or contrast < TINY:
        return math.nan
    near = np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()
    far = np.abs(grey[2:] - grey[:-2]).mean() + np.abs(grey[:, 2:] - grey[:, :-2]).mean()
    return float(near / max(far, TINY))


def _measure_noise(grey: Float[np.ndarray, "h w"]) -> float:
    """Standard deviation of noise, by the median of two crossed second differences (Immerkær 1996): no edges."""
    if min(grey.shape) < 3:
        return math.nan
    rows = grey[2:] - 2 * grey[1:-1] + grey[:-2]
    crossed = rows[:, 2:] - 2 * rows[:, 1:-1] + rows[:, :-2]
    return float(np.median(np.abs(crossed)) / (0.6745 * 6))


def _measure_corners(grey: Float[np.ndarray, "h w"]) -> float:
    """How much darker the corners are than the middle."""
    rows, columns = max(1, grey.shape[0] // 5), max(1, grey.shape[1] // 5)
    corners = [grey[:rows, :columns], grey[:rows, -columns:], grey[-rows:, :columns], grey[-rows:, -columns:]]
    middle = grey[2 * rows : 3 * rows, 2 * columns : 3 * columns]
    return float((middle.mean() if middle.size else grey.mean()) - np.mean([corner.mean() for corner in corners]))
