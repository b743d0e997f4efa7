"""Properties of a concept that help a person to say whether it is an object or a shortcut; none of them decides it.

Tags, watermarks and rulers are near copies of one another, often small and in the same place; objects vary. Each
property stands beside what random places of the same images and the same size give.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.evidence.findings import EvidenceFindings
from salve_audit.evidence.looks import (
    Instances,
    RegionSources,
    bound_cells,
    crop_regions,
    crop_square,
    describe_looks,
)
from salve_audit.evidence.search import Evidence
from salve_audit.results import Concept
from salve_audit.results.looks import CELLS, ConceptProperties

LEAST_INSTANCES = 4  # regions below which nothing is said
SIDE = 8  # pixels of the crops that are compared
SHIFTS = (-1, 0, 1)  # pixels that one crop is moved against the other: a region's middle is not exact
TINY = 1e-6


def add_looks(
    concepts: tuple[Concept, ...],
    findings: EvidenceFindings,
    evidence: Evidence,
    sources: RegionSources,
    rng: np.random.Generator,
) -> tuple[Concept, ...]:
    """Add looks and properties to the concepts of evidence regions.

    Args:
        concepts: of the audit, in the order of `findings.concepts`.
        findings: of the evidence.
        evidence: on the processor.
        sources: access to the images.
        rng: draws the random places.
    """
    looked = list(concepts)
    for index, (instances, look) in describe_looks(findings, evidence, sources).items():
        properties = describe_properties(instances, rng)
        looked[index] = dataclasses.replace(looked[index], look=look, properties=properties)
    return tuple(looked)


def describe_properties(instances: Instances, rng: np.random.Generator) -> ConceptProperties | None:
    """How alike regions look from image to image, and how constant place and size are; None: too few regions.

    Args:
        instances: a few regions of the concept.
        rng: draws the random places.
    """
    if len(instances.pixels) < LEAST_INSTANCES:
        return None
    boxes = np.array([bound_cells(cells.numpy() > 0) for cells in instances.cells[:, 0]])
    middles = np.stack([boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3]], 1) / (2 * CELLS)
    sides = np.sqrt(instances.cells.mean((1, 2, 3)).numpy())
    crops = crop_regions(instances.pixels, instances.cells, SIDE + 2)
    random = _crop_at_random(instances, boxes, rng)
    return ConceptProperties(
        n=len(boxes),
        alike=measure_likeness(crops),
        alike_chance=measure_likeness(random),
        place_spread=float(middles.std(0).mean()),
        place_chance=float((1 - (boxes[:, 2:] - boxes[:, :2]).mean() / CELLS) / np.sqrt(12)),
        size_spread=float(sides.std() / max(TINY, sides.mean())),
    )


def _crop_at_random(instances: Instances, boxes: np.ndarray, rng: np.random.Generator) -> Float[Tensor, "m c s s"]:
    """Crop squares as large as those around the regions, anywhere."""
    crops = []
    for image, box in zip(instances.pixels, boxes, strict=True):
        half = max(box[2] - box[0], box[3] - box[1]) / CELLS / 2
        y, x = half + (1 - 2 * half) * rng.random(2) if half < 0.5 else (0.5, 0.5)
        crops.append(crop_square(image, (float(y), float(x)), float(half), SIDE + 2))
    return torch.stack(crops)


def measure_likeness(crops: Float[Tensor, "m c s s"]) -> float:
    """Mean over pairs of crops of the correlation of their pixels, at the best small shift; all colours at once."""
    base = _standardise(crops[:, :, 1:-1, 1:-1])
    size = crops.shape[-1] - 2
    best = torch.full((len(crops), len(crops)), -1.0)
    for down in SHIFTS:
        for across in SHIFTS:
            moved = crops[:, :, 1 + down : 1 + down + size, 1 + across : 1 + across + size]
            best = torch.maximum(best, base @ _standardise(moved).T)
    pairs = ~torch.eye(len(crops), dtype=torch.bool)
    return float((best + best.T)[pairs].mean() / 2)


def _standardise(crops: Float[Tensor, "m c s s"]) -> Float[Tensor, "m v"]:
    """Crops as vectors of mean 0 and length 1; an even crop becomes 0, which is like nothing."""
    flat = crops.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    return flat / flat.norm(dim=1, keepdim=True).clamp(min=TINY)
