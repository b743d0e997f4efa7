"""What a class can rest on that is no place: the picture's frame and its overall colour, each taken out as a whole.

Pieces are places, so a frame or a tint would go unnoticed: without any one part of it, the rest still does. Two passes
per picture ask for these two directly. Texture everywhere is not among them. Each has a null of its own (`NULLS`): a
change of the same size that leaves it in the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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


def without_ring(images: Float[Tensor, "b c h w"], _: Usual) -> Float[Tensor, "b c h w"]:
    """The null of the frame: a ring of about the same area right inside of it, filled from both sides."""
    height, width = images.shape[2:]
    rows, columns = max(2, height // FRAME), max(2, width // FRAME)
    inside = max(0, height - 2 * rows) * max(0, width - 2 * columns)
    frame = height * width - inside
    ring = torch.zeros_like(images[:, :1])
    ring[:, :, rows : height - rows, columns : width - columns] = 1
    # in the inside's own proportions; of a tiny picture whose inside is no larger than the frame all of it goes
    kept = max(0.0, 1 - frame / max(1, inside)) ** 0.5
    tall, wide = round((height - 2 * rows) * kept), round((width - 2 * columns) * kept)
    if tall > 0 and wide > 0:
        top, left = (height - tall) // 2, (width - wide) // 2
        ring[:, :, top : top + tall, left : left + wide] = 0
    return fill_regions(images, ring)


def with_more_colour(images: Float[Tensor, "b c h w"], usual: Usual) -> Float[Tensor, "b c h w"]:
    """The null of the overall colour: as large a change of every channel the other way, further from the usual.

    Another picture's colour would not do: it takes this one's away as well.
    """
    mean, spread = images.mean((2, 3), keepdim=True), images.std((2, 3), keepdim=True).clamp(min=1e-6)
    wanted = usual[1] * (spread / usual[1]).mean(1, keepdim=True)
    return (images - mean) * (spread / wanted) + 2 * mean - usual[0]


CHANGES: Mapping[str, Change] = MappingProxyType({"frame": without_frame, "overall colour": without_colour})
NULLS: Mapping[str, Change] = MappingProxyType({"frame": without_ring, "overall colour": with_more_colour})


def find_usual(images: Float[Tensor, "n c h w"]) -> Usual:
    """What channels have on average."""
    spread = images.std((2, 3), keepdim=True).mean(0, keepdim=True).clamp(min=1e-6)
    return images.mean((0, 2, 3), keepdim=True), spread


def flip_without_whole(
    probe: Probe, images: Float[Tensor, "n c h w"], evidence: Evidence, batch_size: int, usual: Usual | None = None
) -> dict[str, Bool[np.ndarray, " n"]]:
    """By name of what is taken out: pictures that were right and turn wrong; two passes per picture.

    Args:
        usual: of all pictures, where these are some of them; else it is that of these.
    """
    known = find_usual(images) if usual is None else usual
    whole = Batches(images, evidence, batch_size)
    return {name: turn_changed(probe, whole, change, known) for name, change in CHANGES.items()}


@dataclass(frozen=True)
class Batches:
    """Pictures (n, c, h, w) with their evidence, and how many at once."""

    images: Float[Tensor, "n c h w"]
    evidence: Evidence
    size: int


def turn_changed(probe: Probe, pictures: Batches, change: Change, usual: Usual) -> Bool[np.ndarray, " n"]:
    """Pictures that were right and turn wrong with that change."""
    images, parts = pictures.images, []
    usual = (usual[0].to(images), usual[1].to(images))
    for start in range(0, len(images), pictures.size):
        rows = slice(start, start + pictures.size)
        with torch.no_grad():
            logits = probe(change(images[rows], usual)).logits.cpu()
        parts.append(hard_margin(logits, pictures.evidence.labels[rows]) <= 0)
    return (torch.cat(parts) & pictures.evidence.correct).numpy()
