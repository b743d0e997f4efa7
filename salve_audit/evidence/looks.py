"""How the regions of a concept look in the images, whatever the network: what a later audit knows them by again.

A region is described by its colour, how that differs from what is around it, how busy it is and in which direction,
its size, shape and place, and a coarse crop. A concept's look is the mean over a few of its regions, with how much
place and size vary. Images are chosen by a hash of their names, so that two audits of the same data choose the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from salve_audit.evidence.factors.record import to_luminance, undo_preparation
from salve_audit.evidence.findings import ConceptFinding, EvidenceFindings
from salve_audit.evidence.regions import to_pixels, widen
from salve_audit.evidence.search import Evidence
from salve_audit.results.looks import (
    CELLS,
    MOST_PLACES,
    Box,
    ConceptLook,
    encode_places,
    encode_values,
    name_image,
)
from salve_audit.results.transform import TransformSpec

CROP = 4  # pixels of a coarse crop's side
FEWEST = 6  # regions of a concept that are looked at, at least, where it has as many
MOST_IMAGES = 2000  # that are loaded for this, of all concepts
TINY = 1e-6
# what the values are multiplied by, so that each lies about within -1 to 1 and counts as much as it tells
SCALE_COLOUR, SCALE_CONTRAST, SCALE_BUSY, SCALE_DIRECTION = 1.0, 1.0, 2.0, 0.7
SCALE_SIZE, SCALE_SHAPE, SCALE_PLACE, SCALE_SPREAD, SCALE_CROP = 0.12, 0.3, 0.5, 1.0, 0.7


@dataclass(frozen=True)
class RegionSources:
    """Access to the images that regions lie in.

    Attributes:
        load: rows (m,) of `Evidence` -> prepared images (m, c, h, w).
        path: row -> path of the image.
        spec: how images were prepared.
    """

    load: Callable[[Int[np.ndarray, " m"]], Float[Tensor, "m c h w"]]
    path: Callable[[int], str]
    spec: TransformSpec


@dataclass(frozen=True)
class Instances:
    """A few regions of one concept with the images that they lie in.

    Attributes:
        pixels: (m, c, h, w) about 0 to 1.
        cells: (m, 1, gh, gw) 1 inside the region.
        boxes: by name of the image, each region's bounding box in cells of `CELLS` a side.
    """

    pixels: Float[Tensor, "m c h w"]
    cells: Float[Tensor, "m 1 gh gw"]
    boxes: Mapping[str, Box]


def describe_looks(
    findings: EvidenceFindings, evidence: Evidence, sources: RegionSources
) -> dict[int, tuple[Instances, ConceptLook]]:
    """Look at the concepts of evidence regions, by their index; those without a region are left out."""
    limit = max(FEWEST, min(MOST_PLACES, MOST_IMAGES // max(1, len(findings.concepts))))
    looks = {}
    for index, concept in enumerate(findings.concepts):
        instances = take_instances(concept, evidence, sources, limit)
        if len(instances.pixels):
            values = encode_values(describe_regions(instances.pixels, instances.cells).tolist())
            looks[index] = (instances, ConceptLook(values, encode_places(instances.boxes)))
    return looks


def take_instances(concept: ConceptFinding, evidence: Evidence, sources: RegionSources, limit: int) -> Instances:
    """Take regions of the images whose hashed names come first, at most one of an image."""
    named: dict[str, tuple[int, int]] = {}
    for row, slot in zip(concept.images.tolist(), concept.slots.tolist(), strict=True):
        named.setdefault(name_image(sources.path(row)), (row, slot))
    chosen = sorted(named)[:limit]
    rows = np.array([named[name][0] for name in chosen], dtype=np.int64)
    slots = np.array([named[name][1] for name in chosen], dtype=np.int64)
    cells = evidence.regions[torch.from_numpy(rows), torch.from_numpy(slots)]
    there = cells.flatten(1).any(1).numpy()
    pixels = undo_preparation(sources.load(rows[there]), sources.spec) if there.any() else torch.zeros(0, 1, 1, 1)
    cells = cells[torch.from_numpy(there)]
    names = [name for name, is_there in zip(chosen, there, strict=True) if is_there]
    boxes = {name: bound_cells(each) for name, each in zip(names, cells.numpy(), strict=True)}
    return Instances(pixels.float().clamp(0, 1), cells[:, None].float(), boxes)


def bound_cells(cells: Bool[np.ndarray, "gh gw"]) -> Box:
    """The bounding box of a region, in cells of `CELLS` a side."""
    (height, width), (rows, columns) = cells.shape, np.nonzero(cells)
    top, left = int(rows.min()) * CELLS // height, int(columns.min()) * CELLS // width
    bottom, right = -(-(int(rows.max()) + 1) * CELLS // height), -(-(int(columns.max()) + 1) * CELLS // width)
    return top, left, bottom, right


def describe_regions(pixels: Float[Tensor, "m c h w"], cells: Float[Tensor, "m 1 gh gw"]) -> Float[np.ndarray, " v"]:
    """Describe how regions look on average, about -1 to 1 each; images of one channel give fewer values.

    Args:
        pixels: 0 to 1.
        cells: 1 inside each image's region.
    """
    size = (int(pixels.shape[2]), int(pixels.shape[3]))
    inside = to_pixels(cells, size)
    margin = max(1, round(0.12 * max(cells.shape[2:])))
    around = to_pixels(widen(cells, margin), size) - inside
    colour, outside = _mean_inside(pixels, inside), _mean_inside(pixels, around)
    shape, place = _describe_shape(cells)
    mean = pixels.mean((2, 3))
    columns = [
        SCALE_COLOUR * (2 * colour - 1),
        SCALE_CONTRAST * (colour - outside),
        _describe_texture(pixels, inside),
        shape,
        SCALE_PLACE * (2 * place - 1),
        SCALE_CROP * (crop_regions(pixels, cells, CROP) - mean[:, :, None, None]).flatten(1),
    ]
    means = torch.cat([column.mean(0) for column in columns])
    spread = torch.cat([place.std(0, correction=0) / 0.29, shape[:, :1].std(0, correction=0)])  # 0.29: of anywhere
    return torch.cat([means, SCALE_SPREAD * spread]).double().numpy()


def _mean_inside(pixels: Float[Tensor, "m c h w"], inside: Float[Tensor, "m 1 h w"]) -> Float[Tensor, "m c"]:
    return (pixels * inside).sum((2, 3)) / inside.sum((2, 3)).clamp(min=TINY)


def _describe_texture(pixels: Float[Tensor, "m c h w"], inside: Float[Tensor, "m 1 h w"]) -> Float[Tensor, "m 4"]:
    """How far brightness varies inside, how steep it is, and in which direction (double angle)."""
    grey = to_luminance(pixels)
    mean = _mean_inside(grey, inside)[:, :, None, None]
    deviation = _mean_inside((grey - mean).square(), inside).sqrt()
    padded = functional.pad(grey, (1, 1, 1, 1), mode="replicate")
    across = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
    down = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2
    steep = _mean_inside(across.square() + down.square(), inside)
    tilt = _mean_inside(across.square() - down.square(), inside) / steep.clamp(min=TINY)
    slant = 2 * _mean_inside(across * down, inside) / steep.clamp(min=TINY)
    return torch.cat([SCALE_BUSY * deviation, SCALE_BUSY * steep.sqrt(), SCALE_DIRECTION * tilt,
                      SCALE_DIRECTION * slant], 1)  # fmt: skip


def _describe_shape(cells: Float[Tensor, "m 1 gh gw"]) -> tuple[Float[Tensor, "m 2"], Float[Tensor, "m 2"]]:
    """Size (a logarithm of its share of the image) and elongation; and the middle, in 0 to 1 down and across."""
    mass = cells[:, 0] / cells[:, 0].sum((1, 2), keepdim=True).clamp(min=TINY)
    places, spreads = [], []
    for axis in (1, 2):
        length = cells.shape[axis + 1]
        at = (torch.arange(length) + 0.5) / length
        along = mass.sum(3 - axis)
        middle = (along * at).sum(1)
        places.append(middle)
        spreads.append((along * (at - middle[:, None]).square()).sum(1).clamp(min=TINY).sqrt())
    size = torch.log2(cells.mean((1, 2, 3)).clamp(min=TINY)) + 3
    elongation = torch.log2(spreads[0] / spreads[1])
    return torch.stack([SCALE_SIZE * size, SCALE_SHAPE * elongation], 1), torch.stack(places, 1)


def crop_regions(
    pixels: Float[Tensor, "m c h w"], cells: Float[Tensor, "m 1 gh gw"], side: int
) -> Float[Tensor, "m c s s"]:
    """Crop a square around the middle of each region, as long as its longer side, at `side` pixels."""
    crops = []
    for image, region in zip(pixels, cells[:, 0], strict=True):
        top, left, bottom, right = bound_cells(region.numpy() > 0)
        half = max(bottom - top, right - left) / CELLS / 2
        crops.append(crop_square(image, ((top + bottom) / CELLS / 2, (left + right) / CELLS / 2), half, side))
    return torch.stack(crops)


def crop_square(
    image: Float[Tensor, "c h w"], middle: tuple[float, float], half: float, side: int
) -> Float[Tensor, "c s s"]:
    """Crop a square of `side` pixels around a middle; it is moved into the image where it would leave it."""
    height, width = image.shape[1:]
    reach = max(1.0, half * max(height, width))

    def span(at: float, length: int) -> slice:
        extent = min(length, max(2, math.ceil(2 * reach)))
        start = min(max(0, round(at * length - extent / 2)), length - extent)
        return slice(start, start + extent)

    return functional.adaptive_avg_pool2d(image[:, span(middle[0], height), span(middle[1], width)], side)
