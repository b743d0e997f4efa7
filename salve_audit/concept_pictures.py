"""Pictures that show a concept: with it outlined, and with it taken out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from salve_audit.inputs.classifier import TransformSpec
from salve_audit.reliance.depth.assess import ConceptFinding, DepthFindings
from salve_audit.reliance.depth.evidence import Evidence
from salve_audit.reliance.depth.filling import fill_regions
from salve_audit.reliance.depth.regions import to_pixels as to_cells
from salve_audit.results import Concept, ConceptImage
from salve_audit.saliency.heat import outline
from salve_audit.saliency.thumbnails import encode_picture, fit_side, resize_heat, resize_pixels, to_pixels

MOST_CLASSES = 16
PER_CLASS = 2  # concepts
PER_CONCEPT = 4  # pictures
Shown = tuple[TransformSpec, Sequence[str]]  # how the pictures were prepared, and their paths


def draw_concepts(
    concepts: tuple[Concept, ...], findings: DepthFindings, evidence: Evidence, images: Tensor, shown: Shown
) -> tuple[Concept, ...]:
    """The concepts with pictures: of each class the most frequent ones, of each concept those it decides first."""
    labels = list(dict.fromkeys(one.label for one in findings.concepts))[:MOST_CLASSES]
    drawn = list(concepts)
    for label in labels:
        own = [index for index, one in enumerate(findings.concepts) if one.label == label]
        own.sort(key=lambda index: -findings.concepts[index].effect[label].value)
        for index in own[:PER_CLASS]:
            pictures = _draw(findings.concepts[index], evidence, images, shown)
            drawn[index] = dataclasses.replace(drawn[index], images=pictures)
    return tuple(drawn)


def _draw(one: ConceptFinding, evidence: Evidence, images: Tensor, shown: Shown) -> tuple[ConceptImage, ...]:
    """The pictures that lose most margin without it."""
    alone = evidence.alone[one.pictures, one.pieces].cpu().numpy()
    places = np.argsort(alone, kind="stable")[:PER_CONCEPT]
    return tuple(_draw_one(int(one.pictures[at]), int(one.pieces[at]), evidence, images, shown) for at in places)


def _draw_one(row: int, piece: int, evidence: Evidence, images: Tensor, shown: Shown) -> ConceptImage:
    spec, paths = shown
    image = images[row : row + 1].cpu()
    region = to_cells(evidence.regions[row, piece][None, None].float().cpu(), (image.shape[2], image.shape[3]))
    filled = fill_regions(image, region)
    before, after = (_thumbnail(one.numpy(), spec.mean, spec.std) for one in (image, filled))
    mask = resize_heat(region[0, 0].numpy(), (before.shape[0], before.shape[1])) > 0.5
    lost = bool(evidence.flips[row, piece])
    return ConceptImage(paths[row], encode_picture(outline(before, mask)), encode_picture(after), lost)


def _thumbnail(image: Float[np.ndarray, "1 c h w"], mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    pixels = to_pixels(image, mean, std)[0]
    return resize_pixels(pixels, fit_side(*pixels.shape[:2]))
