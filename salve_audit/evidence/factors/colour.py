"""Colour as a whole: casts, lamps and films, and images that have none."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.evidence.factors.record import TINY, Factor, Pixels, Shift, Statistics, to_luminance


def colour_moments(images: Pixels) -> Statistics:
    """Each channel's mean and spread."""
    return torch.cat([images.mean((2, 3)), images.std((2, 3)).clamp(min=TINY)], 1)


def match_moments(images: Pixels, shift: Shift) -> Pixels:
    """Give every channel the target's mean and, relative to the other channels, its contrast.

    A cast multiplies channels, so it changes mean and spread relative to the other channels; the image's overall
    contrast stays.
    """
    c = images.shape[1]
    own = colour_moments(images)[:, :, None, None]
    mean, spread = own[:, :c], own[:, c:]
    wanted_mean, wanted_spread = shift.target[:, :c, None, None], shift.target[:, c:, None, None]
    contrast = (spread / wanted_spread.clamp(min=TINY)).mean(1, keepdim=True)
    return (images - mean) / spread * wanted_spread * contrast + wanted_mean


def saturation(images: Pixels) -> Statistics:
    """Root mean square distance of the channels from grey."""
    return _chroma(images).square().mean((1, 2, 3)).sqrt()[:, None]


def match_saturation(images: Pixels, shift: Shift) -> Pixels:
    """Scale the distance from grey to the target's, at most threefold: what is grey has no hue to be scaled."""
    gain = (shift.target / saturation(images).clamp(min=TINY)).clamp(max=3)[:, :, None, None]
    return to_luminance(images) + gain * _chroma(images)


def to_grey(images: Pixels, _: Shift) -> Pixels:
    """Brightness alone."""
    return to_luminance(images).expand_as(images)


def _chroma(images: Pixels) -> Float[Tensor, "b c h w"]:
    return images - to_luminance(images)


FACTORS = (
    Factor("colour", "colour", 1.0, match_moments, match_moments, colour_moments),
    Factor("saturation", "colour", 1.0, match_saturation, match_saturation, saturation, coloured=True),
    Factor("hue", "colour", 1.0, to_grey, coloured=True),
)
