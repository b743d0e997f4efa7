"""Sharpness: the radial power spectrum of brightness, which blur, noise and sharpening change."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.evidence.factors.record import Factor, Pixels, Shift, Statistics, to_luminance

BANDS = 17  # from the mean to half a cycle a pixel and the corners beyond
FLOOR = 1e-10  # of power: the rounding of eight bits is above it
FIELD_CYCLES = 4  # an image: slower changes of brightness belong to the mean field
MOST_GAIN = 30.0  # what a blur has taken altogether is not there to be amplified


def radial_spectrum(images: Pixels) -> Statistics:
    """Logarithm of each image's mean power of brightness in bands of frequency."""
    bright = to_luminance(images)[:, 0]
    power = torch.fft.rfft2(_taper(bright), norm="ortho").abs().square()
    bands, counts = _bands(images)
    total = power.new_zeros(len(images), BANDS).index_add_(1, bands, power.flatten(1))
    return (total / counts + FLOOR).log()


def match_spectrum(images: Pixels, shift: Shift) -> Pixels:
    """Multiply each band, but for the slowest, by what brings its power to the target's; all channels alike."""
    gain = ((shift.target - radial_spectrum(images)) / 2).exp().clamp(1 / MOST_GAIN, MOST_GAIN)
    height, width = images.shape[2:]
    place = (_radius(images) * (BANDS - 1)).flatten()
    below = place.floor().long().clamp(max=BANDS - 2)
    part = (place - below).clamp(0, 1)
    smooth = gain.log()[:, below] * (1 - part) + gain.log()[:, below + 1] * part  # no steps, which would ring
    smooth = smooth * (_cycles(images) > FIELD_CYCLES).flatten()
    filtered = torch.fft.rfft2(images) * smooth.exp().view(len(images), 1, height, width // 2 + 1)
    return torch.fft.irfft2(filtered, s=(height, width))


def _taper(bright: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Let brightness go to its mean at the edges, which would else be steps with power of their own."""
    height, width = bright.shape[1:]
    rows = torch.hann_window(height, periodic=False, device=bright.device, dtype=bright.dtype)
    columns = torch.hann_window(width, periodic=False, device=bright.device, dtype=bright.dtype)
    return (bright - bright.mean((1, 2), keepdim=True)) * rows[:, None] * columns


def _radius(images: Pixels) -> Float[Tensor, "h v"]:
    """Frequency of each coefficient over the highest along an axis, at most 1."""
    height, width = images.shape[2:]
    rows = torch.fft.fftfreq(height, device=images.device)
    columns = torch.fft.rfftfreq(width, device=images.device)
    return (2 * torch.hypot(rows[:, None], columns)).clamp(max=1).to(images.dtype)


def _cycles(images: Pixels) -> Float[Tensor, "h v"]:
    """Cycles of each coefficient an image, along the axis that has more."""
    height, width = images.shape[2:]
    rows = torch.fft.fftfreq(height, 1 / height, device=images.device).abs()
    return torch.maximum(rows[:, None], torch.fft.rfftfreq(width, 1 / width, device=images.device))


def _bands(images: Pixels) -> tuple[Tensor, Tensor]:
    """The band of each coefficient, and how many each has, at least one."""
    bands = (_radius(images) * (BANDS - 1)).round().long().flatten()
    return bands, torch.bincount(bands, minlength=BANDS).clamp(min=1)


FACTORS = (Factor("sharpness", "sharpness", 1.0, match_spectrum, match_spectrum, radial_spectrum),)
