"""Heat maps as images that everyone can read: blue to yellow, lighter where hotter, the hottest fifth outlined.

Lightness rises with heat (the colours of cividis), so the map survives grey print and every kind of colour blindness;
the image below only shades it. The outline does not depend on lightness at all.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8

TOP_SHARE = 0.2  # docs/method.md §6.3: localisation is judged by the hottest fifth of the pixels
SCALE = np.array([[0, 34, 78], [64, 77, 107], [124, 123, 120], [190, 176, 108], [254, 232, 56]], np.float32)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
SHADE = 0.4  # share of the colour that a black pixel of the image takes away
LIGHT = 0.22  # light that a white pixel adds where there is no heat
INNER, OUTER = 255, 20  # grey levels of the outline's two lines: one of them shows on any ground


def normalise_heat(heat: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """The map scaled to 0..1; a flat map is 0 everywhere."""
    low, high = float(heat.min()), float(heat.max())
    return (heat - low) / (high - low) if high > low else np.zeros_like(heat)


def find_hottest(heat: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The hottest fifth of the pixels; among equals the first rows. Nothing of a flat map."""
    hottest = np.zeros(heat.shape, bool)
    if heat.max() > heat.min():
        order = np.argsort(-heat, axis=None, kind="stable")
        hottest.flat[order[: max(1, round(TOP_SHARE * heat.size))]] = True
    return hottest


def share_in_hottest(heat: Float[np.ndarray, "h w"]) -> float | None:
    """Share of the heat in the hottest fifth: 0.2 for an even map, 1 if there is none elsewhere; None: a flat map."""
    hottest = find_hottest(heat)
    if not hottest.any():
        return None
    level = normalise_heat(heat).astype(np.float64)
    return float(level[hottest].sum() / level.sum())


def colour(heat: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    """Colours 0..255 of a map in 0..1."""
    at = np.linspace(0.0, 1.0, len(SCALE))
    return np.stack([np.interp(heat, at, SCALE[:, channel]) for channel in range(3)], axis=-1)


def overlay(pixels: UInt8[np.ndarray, "h w 3"], heat: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The map over the image, both of one size, with its hottest fifth outlined."""
    return outline(shade(pixels, heat), find_hottest(heat))


def fade(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The image in pale grey, for a map that shows nothing."""
    grey = 128 + (pixels @ LUMA) / 2
    return np.asarray(np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2))


def shade(pixels: UInt8[np.ndarray, "h w 3"], heat: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The image in grey, coloured by the map."""
    assert pixels.shape[:2] == heat.shape, f"a map of {heat.shape} over an image of {pixels.shape[:2]}"
    level = normalise_heat(heat)[..., None]
    light = (pixels @ LUMA / 255)[..., None]
    mixed = colour(level[..., 0]) * (1 - SHADE * (1 - light)) + 255 * LIGHT * light * (1 - level)
    return np.asarray(np.rint(np.clip(mixed, 0, 255)).astype(np.uint8))


def outline(pixels: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The image with two lines, dark outside and light inside, along the mask's edge."""
    painted = pixels.copy()
    painted[_grow(mask) & ~mask] = OUTER
    painted[mask & _grow(~mask)] = INNER
    return painted


def _grow(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The mask and its four neighbours."""
    padded = np.pad(mask, 1)
    return mask | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
