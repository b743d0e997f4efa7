"""Noise of a sensor or of film, removed by shrinking wavelet coefficients, and fine patterns laid over an image.

Noise is estimated and shrunk as by Donoho and Johnstone (Biometrika 81, 1994): the median of diagonal coefficients,
soft thresholds; by itself at each scale, since grain is coarser than a pixel (Johnstone and Silverman, J. R. Statist.
Soc. B 59, 1997). What a class has up to twice as much of as the others is the texture of its objects.
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
    """The spectra of brightness and of colour, and the variance of the noise at each scale, the finest first."""
    return torch.cat([fine_spectrum(images), estimate_deviations(images) ** 2], 1)


def estimate_deviations(images: Pixels) -> Float[Tensor, "b 4"]:
    """Standard deviation of the noise of each image at each scale, over all channels; 0 where there is no such scale.

    It is the mean over two grids: grain of two pixels has no finest coefficients on one of them.
    """
    found = images.new_zeros(len(images), MOST_SCALES)
    for rows, columns in PLACES[:2]:
        maps = images[..., rows:, columns:]
        for scale in range(_count_scales(images)):
            if min(maps.shape[2:]) < 2:
                break
            maps, *_, diagonal = _split(maps[..., : maps.shape[2] // 2 * 2, : maps.shape[3] // 2 * 2])
            found[:, scale] += diagonal.abs().flatten(1).median(1).values / MEDIAN_DEVIATION / 2
    return found


def _count_scales(images: Pixels) -> int:
    return min(MOST_SCALES, int(math.log2(max(2, min(images.shape[2:]) / COARSEST))))


def remove_noise(images: Pixels, shift: Shift) -> Pixels:
    """Remove the noise that the images' class has more of than the others, at each scale."""
    more = (shift.source[:, -MOST_SCALES:] - NATURAL**2 * shift.target[:, -MOST_SCALES:]).clamp(min=0)
    noisy = (more > 0).any(1)
    if not noisy.any():
        return images
    changed = images.clone()
    changed[noisy] = _shrink_everywhere(images[noisy], THRESHOLD * more[noisy].sqrt())
    return changed


def add_noise(images: Pixels, shift: Shift) -> Pixels:
    """Add noise of the power that the target has more; it is drawn alike for all images of one size."""
    lacking = (shift.target[:, :-MOST_SCALES].exp() - fine_spectrum(images).exp()).clamp(min=FLOOR).log() / 2
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


def _shrink_everywhere(images: Pixels, thresholds: Float[Tensor, "b 4"]) -> Pixels:
    """Mean of the images shrunk on grids at several places, by a threshold of each at every scale."""
    height, width = images.shape[2:]
    n_scales = _count_scales(images)
    step = 2**n_scales
    below, right = -height % step, -width % step
    padded = functional.pad(images, (0, right, 0, below), mode="replicate")
    total = torch.zeros_like(padded)
    for rows, columns in PLACES:
        moved = torch.roll(padded, (rows, columns), (2, 3))
        total += torch.roll(_shrink(moved, thresholds[:, :n_scales]), (-rows, -columns), (2, 3))
    return (total / len(PLACES))[..., :height, :width]


def _shrink(maps: Maps, thresholds: Float[Tensor, "b s"]) -> Maps:
    """Bring the wavelet coefficients of these scales nearer to zero, the finest first."""
    if not thresholds.shape[1]:
        return maps
    mean, *details = _split(maps)
    own = thresholds[:, 0].view(-1, 1, 1, 1)
    soft = [detail.sign() * (detail.abs() - own).clamp(min=0) for detail in details]
    return _join(_shrink(mean, thresholds[:, 1:]), *soft)


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
