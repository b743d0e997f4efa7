"""Traces of JPEG compression: removed by compressing shifted copies, inserted by compressing.

Averaging over copies that are compressed with their blocks elsewhere smooths the edges of blocks and the rings beside
edges. Source: Nosratinia, "Enhancement of JPEG-compressed images by re-application of JPEG", 2001.
"""

from __future__ import annotations

import io
from functools import partial

import numpy as np
import torch
from PIL import Image

from salve_audit.evidence.factors.record import Factor, Pixels, Shift

INSERTED_QUALITY = 10
SHIFTS = ((2, 5), (5, 2), (4, 4), (7, 7))  # pixels of a block's eight
SHIFTED_QUALITY = 20


def compress(images: Pixels, _: Shift, quality: int) -> Pixels:
    """Write and read each image as JPEG; more than three channels one by one."""
    c = images.shape[1]
    bytes_ = (images.detach().cpu() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    groups = [np.s_[..., :3]] if c == 3 else [np.s_[..., channel : channel + 1] for channel in range(c)]
    written = [np.concatenate([_through_jpeg(image[group], quality) for group in groups], 2) for image in bytes_]
    return torch.from_numpy(np.stack(written)).permute(0, 3, 1, 2).to(images) / 255


def smooth_blocks(images: Pixels, shift: Shift) -> Pixels:
    """Average over copies of the images that are compressed with their blocks elsewhere."""
    total = torch.zeros_like(images)
    for rows, columns in SHIFTS:
        moved = compress(images.roll((rows, columns), (2, 3)), shift, SHIFTED_QUALITY)
        total += moved.roll((-rows, -columns), (2, 3))
    return total / len(SHIFTS)


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(image.shape)


FACTORS = (
    Factor(
        "compression", "compression", 1.0, smooth_blocks, partial(compress, quality=INSERTED_QUALITY), same_for_all=True
    ),
)
