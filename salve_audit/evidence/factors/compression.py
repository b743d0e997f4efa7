"""Compression: images are written as JPEG of low quality. It is only inserted.

What compression has taken is gone. Smoothing the edges of blocks instead, as deblocking does, finds whatever depends on
fine detail (sandals among garments), even where it is done only as far as a class has more of such edges than others.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from salve_audit.evidence.factors.record import Factor, Pixels, Shift

QUALITY = 10


def compress(images: Pixels, _: Shift, quality: int = QUALITY) -> Pixels:
    """Write and read each image as JPEG; more than three channels one by one."""
    c = images.shape[1]
    bytes_ = (images.detach().cpu() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    groups = [np.s_[..., :3]] if c == 3 else [np.s_[..., channel : channel + 1] for channel in range(c)]
    written = [np.concatenate([_through_jpeg(image[group], quality) for group in groups], 2) for image in bytes_]
    return torch.from_numpy(np.stack(written)).permute(0, 3, 1, 2).to(images) / 255


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(image.shape)


FACTORS = (Factor("compression", "compression", 1.0, insert=compress, same_for_all=True),)
