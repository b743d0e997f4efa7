"""Noise of a sensor or of film, removed by shrinking wavelet coefficients, and fine patterns laid over an image.

Noise is estimated and shrunk as by Donoho and Johnstone (Biometrika 81, 1994): the median of the finest diagonal
coefficients, soft thresholds. What a class has up to twice as much of as the others is the texture of its objects.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from salve_audit.evidence.factors.record import Factor, Pixels, Shift, Statistics, to_luminance
from salve_audit.evidence.factors.spectrum import (
    BANDS,
    FIELD_CYCLES,
    FLOOR,
    band_spectrum,
    count_cycles,
    multiply_bands,
    radial_spectrum,
)

NATURAL = 2.0  # times the others' noise
THRESHOLD = 3.0  # standard deviations of noise
MEDIAN_DEVIATION = 0.6745  # of a normal distribution
COARSEST = 8  # pixels of the shorter side at the coarsest scale, of sides of 16 or more
MOST_SCALES = 4
PLACES = ((0, 0), (1, 1), (3, 2), (6, 5))  # the grid of wavelets is put to: without, its edges would show

Maps = Float[Tensor, "b c h w"]


def fine_spectrum(images: Pixels) -> Statistics:
    """The radial spectrum of brightness, then that of colour: a sensor's noise is in both."""
    return torch.cat([radial_spectrum(images), band_spectrum(images - to_luminance(images))], 1)


def measure_noise(images: Pixels) -> Statistics:
    """The spectra of brightness and of colour, and the variance of the noise."""
    return torch.cat([fine_spectrum(images), estimate_deviation(images)[:, None] ** 2], 1)


def estimate_deviation(images: Pixels) -> Float[Tensor, " b"]:
    """Standard deviation of the noise of each image, over all channels; 0 of a single row or column."""
    if min(images.shape[2:]) < 2:
        return images.new_zeros(len(images))
    even = images[..., : images.shape[2] // 2 * 2, : images.shape[3] // 2 * 2]
    return _split(even)[3].abs().flatten(1).median(1).values / MEDIAN_DEVIATION


def remove_noise(images: Pixels, shift: Shift) -> Pixels:
    """Remove the noise that the images' class has more of than the others."""
    more = (shift.source[:, -1] - NATURAL**2 * shift.target[:, -1]).clamp(min=0)
    noisy = more > 0
    if not noisy.any():
        return images
    changed = images.clone()
    changed[noisy] = _shrink_everywhere(images[noisy], THRESHOLD * more[noisy].sqrt().view(-1, 1, 1, 1))
    return changed


def add_noise(images: Pixels, shift: Shift) -> Pixels:
    """Add noise of the power that the target has more; it is drawn alike for all images of one size."""
    lacking = (shift.target[:, :-1].exp() - fine_spectrum(images).exp()).clamp(min=FLOOR).log() / 2
    noise = torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(0)).to(images)[None]
    fast = torch.fft.irfft2(torch.fft.rfft2(noise) * (count_cycles(images) > FIELD_CYCLES), s=images.shape[2:])
    bright, colour = to_luminance(fast), fast - to_luminance(fast)
    own = fine_spectrum(noise).exp()  # tapered, as what is lacking
    bright_gain = lacking[:, :BANDS] - own[:, :BANDS].mean(1, keepdim=True).log() / 2
    colour_gain = lacking[:, BANDS:] - own[:, BANDS:].mean(1, keepdim=True).log() / 2
    bright, colour = bright.expand_as(images[:, :1]), colour.expand_as(images)
    return images + multiply_bands(bright, bright_gain) + multiply_bands(colour, colour_gain)


def quieten(images: Pixels, shift: Shift) -> Pixels:
    """Bring bands of brightness and of colour, each by itself, down to the target's; none is amplified."""
    gain = ((shift.target - fine_spectrum(images)) / 2).clamp(max=0)
    bright = to_luminance(images)
    return multiply_bands(bright, gain[:, :BANDS]) + multiply_bands(images - bright, gain[:, BANDS:])


def _shrink_everywhere(images: Pixels, threshold: Maps) -> Pixels:
    """Mean of the images shrunk on grids at several places."""
    height, width = images.shape[2:]
    n_scales = min(MOST_SCALES, int(math.log2(max(2, min(height, width) / COARSEST))))
    step = 2**n_scales
    below, right = -height % step, -width % step
    padded = functional.pad(images, (0, right, 0, below), mode="replicate")
    total = torch.zeros_like(padded)
    for rows, columns in PLACES:
        moved = torch.roll(padded, (rows, columns), (2, 3))
        total += torch.roll(_shrink(moved, threshold, n_scales), (-rows, -columns), (2, 3))
    return (total / len(PLACES))[..., :height, :width]


def _shrink(maps: Maps, threshold: Maps, n_scales: int) -> Maps:
    """Bring the wavelet coefficients of so many scales nearer to zero."""
    if not n_scales:
        return maps
    mean, *details = _split(maps)
    soft = [detail.sign() * (detail.abs() - threshold).clamp(min=0) for detail in details]
    return _join(_shrink(mean, threshold, n_scales - 1), *soft)


def _split(maps: Maps) -> tuple[Maps, Maps, Maps, Maps]:
    """Haar's mean, vertical, horizontal and diagonal coefficients of maps with even sides."""
    a, b, c, d = maps[..., ::2, ::2], maps[..., 1::2, ::2], maps[..., ::2, 1::2], maps[..., 1::2, 1::2]
    return (a + b + c + d) / 2, (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2


def _join(mean: Maps, vertical: Maps, horizontal: Maps, diagonal: Maps) -> Maps:
    """Inverse of `_split`, which is its own inverse up to the places."""
    maps = mean.new_empty(*mean.shape[:2], 2 * mean.shape[2], 2 * mean.shape[3])
    maps[..., ::2, ::2] = (mean + vertical + horizontal + diagonal) / 2
    maps[..., 1::2, ::2] = (mean - vertical + horizontal - diagonal) / 2
    maps[..., ::2, 1::2] = (mean + vertical - horizontal - diagonal) / 2
    maps[..., 1::2, 1::2] = (mean - vertical - horizontal + diagonal) / 2
    return maps


FACTORS = (
    Factor("noise", "noise", 1.0, remove_noise, add_noise, measure_noise, own_change=True),
    Factor("fine pattern", "noise", 1.0, quieten, measure=fine_spectrum),
)
