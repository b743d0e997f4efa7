"""Traces of JPEG compression: removed by compressing shifted copies, inserted by compressing.

Averaging over copies that are compressed with their blocks elsewhere smooths the edges of blocks and the rings beside
edges. It is done only as far as a class has more of such edges than the others: smoothing everything would find whatever depends on fine detail. Source: Nosratinia, "Enhancement of JPEG-compressed images by re-application
of JPEG", 2001.
"""

from __future__ import annotations

import io
from functools import partial

import numpy as np
import torch
from PIL import Image

from salve_audit.evidence.factors.record import Factor, Pixels, Shift, Statistics, to_luminance

INSERTED_QUALITY = 10
BLOCK = 8  # pixels
SHIFTS = ((2, 5), (5, 2), (4, 4), (7, 7))  # pixels of a block's
LEAST_TAKEN = 0.1  # of blockiness, by a full average: of images without blocks little is averaged
FLOOR = 1e-4  # of a step of brightness: far below one of eight bits
SHIFTED_QUALITY = 20


def compress(images: Pixels, _: Shift, quality: int) -> Pixels:
    """Write and read each image as JPEG; more than three channels one by one."""
    c = images.shape[1]
    bytes_ = (images.detach().cpu() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    groups = [np.s_[..., :3]] if c == 3 else [np.s_[..., channel : channel + 1] for channel in range(c)]
    written = [np.concatenate([_through_jpeg(image[group], quality) for group in groups], 2) for image in bytes_]
    return torch.from_numpy(np.stack(written)).permute(0, 3, 1, 2).to(images) / 255


def blockiness(images: Pixels) -> Statistics:
    """Log ratio of steps of brightness between blocks of eight pixels to other steps."""
    bright = to_luminance(images)
    ratios = []
    for axis in (2, 3):
        steps = bright.diff(dim=axis).abs().mean((1, 5 - axis))
        between = torch.arange(steps.shape[1], device=images.device) % BLOCK == BLOCK - 1
        if between.any() and not between.all():
            ratios.append((steps[:, between].mean(1) + FLOOR).log() - (steps[:, ~between].mean(1) + FLOOR).log())
    return torch.stack(ratios, 1).mean(1, keepdim=True) if ratios else images.new_zeros(len(images), 1)


def smooth_blocks(images: Pixels, shift: Shift) -> Pixels:
    """Take as much blockiness away as the source has more than the target, by an average over shifted copies.

    The copies are compressed with their blocks elsewhere.
    """
    smooth = torch.zeros_like(images)
    for rows, columns in SHIFTS:
        moved = compress(images.roll((rows, columns), (2, 3)), shift, SHIFTED_QUALITY)
        smooth += moved.roll((-rows, -columns), (2, 3)) / len(SHIFTS)
    taken = (blockiness(images) - blockiness(smooth)).clamp(min=LEAST_TAKEN)
    part = ((shift.source - shift.target) / taken).clamp(0, 1)
    return images + part[:, :, None, None] * (smooth - images)


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(image.shape)


FACTORS = (
    Factor(
        "compression",
        "compression",
        1.0,
        smooth_blocks,
        partial(compress, quality=INSERTED_QUALITY),
        blockiness,
        same_for_all=True,
    ),
)
