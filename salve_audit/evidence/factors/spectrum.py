"""Sharpness: the radial power spectrum of brightness, which blur and sharpening change."""

from __future__ import annotations

import math

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
    return band_spectrum(to_luminance(images))


def shift_spectrum(images: Pixels, shift: Shift) -> Pixels:
    """Multiply each band, but for the slowest, by what brings the source's power to the target's; all channels alike.

    All images of a class are changed alike: brought to one spectrum, each by itself, they would lose more than what
    sets their class apart.
    """
    return multiply_bands(images, (shift.target - shift.source) / 2)


def band_spectrum(maps: Float[Tensor, "b m h w"]) -> Statistics:
    """Logarithm of the mean power over all maps in bands of frequency."""
    power = torch.fft.rfft2(_taper(maps), norm="ortho").abs().square().mean(1)
    bands, counts = _bands(maps)
    total = power.new_zeros(len(maps), BANDS).index_add_(1, bands, power.flatten(1))
    return (total / counts + FLOOR).log()


def multiply_bands(maps: Float[Tensor, "b m h w"], log_gain: Statistics) -> Float[Tensor, "b m h w"]:
    """Filter by a gain in each band, at most `MOST_GAIN` and one over it, without steps, which would ring."""
    height, width = maps.shape[2:]
    gain = log_gain.clamp(-math.log(MOST_GAIN), math.log(MOST_GAIN))
    place = (_radius(maps) * (BANDS - 1)).flatten()
    below = place.floor().long().clamp(max=BANDS - 2)
    part = (place - below).clamp(0, 1)
    smooth = (gain[:, below] * (1 - part) + gain[:, below + 1] * part) * (count_cycles(maps) > FIELD_CYCLES).flatten()
    filtered = torch.fft.rfft2(maps) * smooth.exp().view(len(maps), 1, height, width // 2 + 1)
    return torch.fft.irfft2(filtered, s=(height, width))


def _taper(maps: Float[Tensor, "b m h w"]) -> Float[Tensor, "b m h w"]:
    """Let values go to their mean at the edges, which would else be steps with power of their own."""
    height, width = maps.shape[2:]
    rows = torch.hann_window(height, periodic=False, device=maps.device, dtype=maps.dtype)
    columns = torch.hann_window(width, periodic=False, device=maps.device, dtype=maps.dtype)
    return (maps - maps.mean((2, 3), keepdim=True)) * rows[:, None] * columns


def _radius(images: Pixels) -> Float[Tensor, "h v"]:
    """Frequency of each coefficient over the highest along an axis, at most 1."""
    height, width = images.shape[2:]
    rows = torch.fft.fftfreq(height, device=images.device)
    columns = torch.fft.rfftfreq(width, device=images.device)
    return (2 * torch.hypot(rows[:, None], columns)).clamp(max=1).to(images.dtype)


def count_cycles(images: Pixels) -> Float[Tensor, "h v"]:
    """Cycles of each coefficient an image, along the axis that has more."""
    height, width = images.shape[2:]
    rows = torch.fft.fftfreq(height, 1 / height, device=images.device).abs()
    return torch.maximum(rows[:, None], torch.fft.rfftfreq(width, 1 / width, device=images.device))


def _bands(images: Pixels) -> tuple[Tensor, Tensor]:
    """The band of each coefficient, and how many each has, at least one."""
    bands = (_radius(images) * (BANDS - 1)).round().long().flatten()
    return bands, torch.bincount(bands, minlength=BANDS).clamp(min=1)


FACTORS = (Factor("sharpness", "sharpness", 1.0, shift_spectrum, shift_spectrum, radial_spectrum, own_change=True),)
