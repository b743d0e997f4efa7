"""Places of an image that look, to an early layer, like its evidence region: the rest of a ruler, a tiled watermark.

A thing that is there twice, or that is longer than what attribution finds of it, still does its work once a part of it
is removed. What belongs to the region's kind is asked of the layer's activations: along the direction in which the
region differs from the rest of its image, these cells lie as far out as hardly any cell of other classes' images does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from salve_audit.evidence.regions import widen

TINY = 1e-6
CHANCE = 0.005  # share of other images' cells that are as alike
MOST_AREA = 0.35  # of an image, which a thing may take together with all that is alike: more is a backdrop
FEWEST = 4  # images of other classes that chance is known from


def to_cells(maps: Float[Tensor, "b d mh mw"], grid: tuple[int, int]) -> Float[Tensor, "b d gh gw"]:
    """Average or repeat a layer's activations to the cells of the grid."""
    finer = maps.shape[2] >= grid[0] and maps.shape[3] >= grid[1]
    return functional.adaptive_avg_pool2d(maps, grid) if finer else functional.interpolate(maps, grid, mode="nearest")


@dataclass(frozen=True)
class CellPool:
    """Cells of images of all classes, which say how alike cells are by chance.

    Attributes:
        points: (p, d, g) activations of each image's cells, standardised and less the image's mean.
        labels: (p,) class index of each image.
        spread: (1, d, 1) of each channel.
    """

    points: Float[Tensor, "p d g"]
    labels: Int[Tensor, " p"]
    spread: Float[Tensor, "1 d 1"]


def pool_cells(cells: Float[Tensor, "p d gh gw"], labels: Int[Tensor, " p"]) -> CellPool:
    """Make a pool of the activations of images of several classes."""
    spread = cells.std((0, 2, 3)).clamp(min=TINY)[None, :, None]
    return CellPool(_to_points(cells, spread), labels, spread)


def find_alike(
    cells: Float[Tensor, "b d gh gw"],
    regions: Float[Tensor, "b 1 gh gw"],
    labels: Int[Tensor, " b"],
    pool: CellPool,
) -> Float[Tensor, "b 1 gh gw"]:
    """Mark the cells outside of each region that look like it; none where other classes have too few images.

    Args:
        cells: activations.
        regions: evidence regions, 1 inside.
        labels: class index of each image.
        pool: of images of all classes.
    """
    points = _to_points(cells, pool.spread)
    inside = regions.flatten(2)
    kind = functional.normalize((points * inside).sum(2) / inside.sum(2).clamp(min=1), dim=1)  # (b, d)
    own = torch.einsum("bd,bdg->bg", kind, points)
    chance = torch.einsum("bd,pdg->bpg", kind, pool.points)
    found = torch.zeros_like(regions)
    for row in range(len(regions)):
        others = pool.labels != labels[row]
        if int(others.sum()) < FEWEST:
            continue
        least = chance[row, others].flatten().quantile(1 - CHANCE)
        alike = widen((own[row] > least).to(regions).view_as(regions[row])[None], 1)[0]
        if float(torch.maximum(alike, regions[row]).mean()) <= MOST_AREA:
            found[row] = alike
    return found


def _to_points(cells: Tensor, spread: Tensor) -> Float[Tensor, "b d g"]:
    points = cells.flatten(2) / spread
    return points - points.mean(2, keepdim=True)
