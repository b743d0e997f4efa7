"""What a class can rest on that is no place: the picture's frame and its overall colour, each taken out as a whole.

Pieces are places, so a frame or a tint would go unnoticed: without any one part of it, the rest still does. Two passes
per picture ask for these two directly. Texture everywhere is not among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from salve_audit.reliance.depth.filling import fill_regions
from salve_audit.reliance.depth.network import Probe, hard_margin
from salve_audit.reliance.depth.pieces import Evidence

FRAME = 16  # the frame is one so-many-th of each side, at least two pixels: what borders and letterboxes take

Usual = tuple[Tensor, Tensor]  # mean and standard deviation of each channel, (1, c, 1, 1), over all pictures
Change = Callable[[Tensor, Usual], Tensor]


def without_frame(images: Float[Tensor, "b c h w"], _: Usual) -> Float[Tensor, "b c h w"]:
    """The outermost pixels filled from what is inside."""
    height, width = images.shape[2:]
    rows, columns = max(2, height // FRAME), max(2, width // FRAME)
    frame = torch.ones_like(images[:, :1])
    frame[:, :, rows : height - rows, columns : width - columns] = 0
    return fill_regions(images, frame)


def without_colour(images: Float[Tensor, "b c h w"], usual: Usual) -> Float[Tensor, "b c h w"]:
    """Every channel with the mean and, relative to the other channels, the contrast that it has on average.

    A tint multiplies channels, so it changes both; the picture's overall contrast stays.
    """
    mean, spread = images.mean((2, 3), keepdim=True), images.std((2, 3), keepdim=True).clamp(min=1e-6)
    wanted = usual[1] * (spread / usual[1]).mean(1, keepdim=True)
    return (images - mean) / spread * wanted + usual[0]


CHANGES: Mapping[str, Change] = MappingProxyType({"frame": without_frame, "overall colour": without_colour})


def find_usual(images: Float[Tensor, "n c h w"]) -> Usual:
    """What channels have on average."""
    spread = images.std((2, 3), keepdim=True).mean(0, keepdim=True).clamp(min=1e-6)
    return images.mean((0, 2, 3), keepdim=True), spread


def flip_without_whole(
    probe: Probe, images: Float[Tensor, "n c h w"], evidence: Evidence, batch_size: int
) -> dict[str, Bool[np.ndarray, " n"]]:
    """By name of what is taken out: pictures that were right and turn wrong; two passes per picture."""
    usual = find_usual(images)
    turned = {}
    for name, change in CHANGES.items():
        parts = []
        for start in range(0, len(images), batch_size):
            with torch.no_grad():
                logits = probe(change(images[start : start + batch_size], usual)).logits.cpu()
            parts.append(hard_margin(logits, evidence.labels[start : start + batch_size]) <= 0)
        turned[name] = (torch.cat(parts) & evidence.correct).numpy()
    return turned
