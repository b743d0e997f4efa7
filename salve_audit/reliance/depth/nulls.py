"""What is lost without some place of the picture, as large as the evidence, but anywhere: the null of reliance."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from salve_audit.reliance.depth.assess import Share
from salve_audit.reliance.depth.filling import fill_regions
from salve_audit.reliance.depth.network import Probe, hard_margin
from salve_audit.reliance.depth.pieces import Evidence
from salve_audit.reliance.depth.regions import to_pixels
from salve_audit.reliance.depth.squares import SIDES, judge_with_squares
from salve_audit.reliance.survival import wilson

N_DRAWS = 1  # places per picture


def flip_at_random(
    probe: Probe, images: Float[Tensor, "n c h w"], evidence: Evidence, batch_size: int, rng: np.random.Generator
) -> dict[int, Share]:
    """Per class, the share of pictures that turn wrong when a place shaped like their first piece is taken out."""
    return summarise_null(evidence, turn_at_random(probe, images, evidence, batch_size, rng))


def turn_at_random(
    probe: Probe, images: Float[Tensor, "n c h w"], evidence: Evidence, batch_size: int, rng: np.random.Generator
) -> Bool[np.ndarray, "n t"]:
    """Which pictures that were right turn wrong, in each of `N_DRAWS` places, judged with squares as pieces are.

    The first piece is moved as a whole to a random place inside the picture.
    Draws are picture by picture: pictures given in several calls, with the same `rng`, get the same places.
    """
    first = evidence.regions[:, 0]
    shares = rng.random((len(first), N_DRAWS, 2))  # of the room that each has on each axis
    turned = torch.zeros(len(images), N_DRAWS, dtype=torch.bool)
    for draw in range(N_DRAWS):
        pairs = zip(first, shares[:, draw].tolist(), strict=True)
        moved = torch.stack([move_inside(one, (down, along)) for one, (down, along) in pairs])
        margins = _margins_without(probe, images, moved, evidence.labels, batch_size)
        placed = dataclasses.replace(
            evidence,
            regions=moved[:, None],
            alone=margins[:, None],
            together=margins[:, None],
            traits=evidence.traits[:, :1],
        )
        turned[:, draw] = judge_with_squares(probe, images, placed, batch_size).flips[:, 0]
    return turned.numpy()


def move_inside(region: Bool[Tensor, "gh gw"], shares: tuple[float, float]) -> Bool[Tensor, "gh gw"]:
    """The region, moved so that its bounding box lies at these shares (0..1) of the room that it has."""
    if not region.any():
        return region
    offsets = []
    for axis, share in enumerate(shares):
        there = torch.nonzero(region.any(1 - axis))[:, 0]
        first, side = int(there[0]), int(there[-1] - there[0]) + 1
        offsets.append(int(share * (region.shape[axis] - side + 1)) - first)
    return torch.roll(region, tuple(offsets), (0, 1))


def count_passes(evidence: Evidence) -> int:
    """Of `turn_at_random`: pictures without a piece have no squares."""
    n_there = int(evidence.regions[:, 0].flatten(1).any(1).sum())
    return N_DRAWS * (len(evidence.labels) + len(SIDES) * n_there)


def _margins_without(
    probe: Probe,
    images: Float[Tensor, "n c h w"],
    regions: Bool[Tensor, "n gh gw"],
    labels: Int[Tensor, " n"],
    batch_size: int,
) -> Float[Tensor, " n"]:
    """With each picture's region filled in, on the processor, where the evidence is."""
    margins = []
    for start in range(0, len(images), batch_size):
        rows = slice(start, start + batch_size)
        out = to_pixels(regions[rows, None].to(images), (images.shape[2], images.shape[3]))
        with torch.no_grad():
            logits = probe(fill_regions(images[rows], out)).logits.cpu()
        margins.append(hard_margin(logits, labels[rows]))
    return torch.cat(margins)


def summarise_null(evidence: Evidence, turned: Bool[np.ndarray, "n t"]) -> dict[int, Share]:
    """Per class the mean over pictures and draws.

    The interval is Wilson's over pictures, as if there had been one draw of each: draws of one picture are alike, and
    so it is rather too wide.
    """
    labels = evidence.labels.numpy()
    return {label: share_with_wilson(turned[labels == label]) for label in np.unique(labels).tolist()}


def share_with_wilson(turned: Bool[np.ndarray, "n t"]) -> Share:
    """The share of all, with the interval of a share of n pictures; n > 0."""
    n, value = len(turned), float(turned.mean())
    low, high = wilson(round(value * n), n)
    return Share(value, min(low, value), max(high, value))
