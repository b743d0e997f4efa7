"""Connected regions around the strongest evidence, on a grid of cells; all pictures of a batch at once."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

GRID = 32  # cells along the longer side: fine enough for a cue of a tenth of the picture


def choose_grid(height: int, width: int) -> tuple[int, int]:
    """Cells of a picture: square, at most `GRID` along the longer side, never finer than pixels."""
    cell = max(1.0, max(height, width) / GRID)
    return max(1, round(height / cell)), max(1, round(width / cell))


def peak_region(
    evidence: Float[Tensor, "b 1 gh gw"], share: float, margin: int
) -> tuple[Float[Tensor, "b 1 gh gw"], Float[Tensor, "b 1 1 1"]]:
    """Around each picture's peak: cells connected to it with at least `share` of its height, and `margin` cells more.

    Returns:
        the region, empty where there is no evidence at all, and the height of the peak.
    """
    height, place = evidence.flatten(1).max(1)
    peak = functional.one_hot(place, evidence[0].numel()).to(evidence).view_as(evidence)
    height = height.view(-1, 1, 1, 1)
    return widen(_connect(peak, _above(evidence, share * height)), margin), height


def grow_region(
    region: Float[Tensor, "b 1 gh gw"],
    evidence: Float[Tensor, "b 1 gh gw"],
    least: Float[Tensor, "b 1 1 1"],
    margin: int,
) -> Float[Tensor, "b 1 gh gw"]:
    """The region and what touches it with evidence of at least `least`: the rest of the same thing."""
    touching = _connect(widen(region, 1), _above(evidence, least))
    return torch.maximum(region, widen(touching, margin))


def widen(region: Float[Tensor, "b 1 gh gw"], margin: int) -> Float[Tensor, "b 1 gh gw"]:
    """The region and every cell within `margin` cells of it."""
    return functional.max_pool2d(region, 2 * margin + 1, 1, margin) if margin else region


def to_pixels(region: Float[Tensor, "b 1 gh gw"], size: tuple[int, int]) -> Float[Tensor, "b 1 h w"]:
    return functional.interpolate(region, size, mode="nearest")


def _above(evidence: Tensor, least: Tensor) -> Tensor:
    return ((evidence > least) & (evidence > 0)).to(evidence.dtype)


def _connect(start: Tensor, allowed: Tensor) -> Tensor:
    """Allowed cells that a path of allowed cells joins to `start`; long windings beyond half the grid are cut off."""
    reached = start * allowed
    for _ in range(max(2, max(start.shape[2:]) // 2)):
        reached = widen(reached, 1) * allowed
    return reached
