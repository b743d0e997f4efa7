"""Colour as a whole: casts, lamps and films, and images that have none."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.evidence.factors.record import TINY, Factor, Pixels, Shift, Statistics, to_luminance

MOST_CONTRAST = 5.0  # of a channel over the others: what is nearly constant has none to be scaled


def colour_moments(images: Pixels) -> Statistics:
    """Each channel's mean and spread."""
    return torch.cat([images.mean((2, 3)), images.std((2, 3)).clamp(min=TINY)], 1)


def shift_moments(images: Pixels, shift: Shift) -> Pixels:
    """Change every channel's mean and, relative to the other channels, its contrast, as between source and target.

    A cast multiplies channels, so it changes mean and spread relative to the other channels; the image's overall
    contrast stays.
    """
    c = images.shape[1]
    mean = images.mean((2, 3), keepdim=True)
    source, target = shift.source[:, :, None, None], shift.target[:, :, None, None]
    contrast = target[:, c:].clamp(min=TINY) / source[:, c:].clamp(min=TINY)
    contrast = (contrast / contrast.log().mean(1, keepdim=True).exp()).clamp(1 / MOST_CONTRAST, MOST_CONTRAST)
    return (images - mean) * contrast + mean + target[:, :c] - source[:, :c]


def saturation(images: Pixels) -> Statistics:
    """Root mean square distance of the channels from grey."""
    return _chroma(images).square().mean((1, 2, 3)).sqrt()[:, None]


def scale_saturation(images: Pixels, shift: Shift) -> Pixels:
    """Scale the distance from grey by the target's over the source's, at most threefold: grey has no hue to scale."""
    gain = (shift.target / shift.source.clamp(min=TINY)).clamp(max=3)[:, :, None, None]
    return to_luminance(images) + gain * _chroma(images)


def to_grey(images: Pixels, _: Shift) -> Pixels:
    """Brightness alone."""
    return to_luminance(images).expand_as(images)


def _chroma(images: Pixels) -> Float[Tensor, "b c h w"]:
    return images - to_luminance(images)


FACTORS = (
    Factor("colour", "colour", 1.0, shift_moments, shift_moments, colour_moments, own_change=True),
    Factor("saturation", "colour", 1.0, scale_saturation, scale_saturation, saturation, coloured=True, own_change=True),
    Factor("hue", "colour", 1.0, to_grey, coloured=True),
)
