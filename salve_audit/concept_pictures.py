"""Pictures that show a concept: with it outlined, and with it taken out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from salve_audit.inputs.classifier import TransformSpec
from salve_audit.reliance.depth.assess import ConceptFinding, DepthFindings
from salve_audit.reliance.depth.evidence import Evidence
from salve_audit.reliance.depth.filling import fill_regions
from salve_audit.reliance.depth.regions import to_pixels as to_cells
from salve_audit.reliance.depth.whole import CHANGES, find_usual
from salve_audit.results import Concept, ConceptImage
from salve_audit.saliency.heat import outline
from salve_audit.saliency.thumbnails import encode_picture, fit_side, resize_heat, resize_pixels, to_pixels

MOST_CLASSES = 16
PER_CLASS = 2  # concepts
PER_CONCEPT = 4  # pictures


@dataclass(frozen=True)
class ShownPictures:
    """Prepared pictures (n, c, h, w), their paths, and how they were prepared."""

    images: Float[Tensor, "n c h w"]
    paths: Sequence[str]
    spec: TransformSpec

    def thumbnail(self, image: Float[Tensor, "1 c h w"]) -> UInt8[np.ndarray, "s t 3"]:
        """One prepared picture as it is shown."""
        pixels = to_pixels(image.numpy(), self.spec.mean, self.spec.std)[0]
        return resize_pixels(pixels, fit_side(pixels.shape[0], pixels.shape[1]))


def draw_concepts(
    concepts: tuple[Concept, ...], findings: DepthFindings, evidence: Evidence, shown: ShownPictures
) -> tuple[Concept, ...]:
    """The concepts with pictures: of each class those it loses most without, of each concept those it decides first."""
    order = sorted(findings.concepts, key=lambda one: -one.effect[one.label].value)
    labels = list(dict.fromkeys(one.label for one in order))[:MOST_CLASSES]
    drawn = list(concepts)
    for label in labels:
        own = [index for index, one in enumerate(findings.concepts) if one.label == label]
        own.sort(key=lambda index: -findings.concepts[index].effect[label].value)
        for index in own[:PER_CLASS]:
            pictures = _draw(findings.concepts[index], evidence, shown)
            drawn[index] = dataclasses.replace(drawn[index], images=pictures)
    return tuple(drawn)


def _draw(one: ConceptFinding, evidence: Evidence, shown: ShownPictures) -> tuple[ConceptImage, ...]:
    """The pictures that lose most margin without it."""
    alone = evidence.alone[one.pictures, one.pieces].cpu().numpy()
    places = np.argsort(alone, kind="stable")[:PER_CONCEPT]
    return tuple(_draw_one(int(one.pictures[at]), int(one.pieces[at]), evidence, shown) for at in places)


def _draw_one(row: int, piece: int, evidence: Evidence, shown: ShownPictures) -> ConceptImage:
    image = shown.images[row : row + 1]
    region = to_cells(evidence.regions[row, piece][None, None].float().cpu(), (image.shape[2], image.shape[3]))
    before, after = shown.thumbnail(image), shown.thumbnail(fill_regions(image, region))
    mask = resize_heat(region[0, 0].numpy(), (before.shape[0], before.shape[1])) > 0.5
    lost = bool(evidence.flips[row, piece])
    return ConceptImage(shown.paths[row], encode_picture(outline(before, mask)), encode_picture(after), lost)


def draw_wholes(
    concepts: tuple[Concept, ...],
    turned: Mapping[str, Bool[np.ndarray, " n"]],
    evidence: Evidence,
    shown: ShownPictures,
    classes: Sequence[str],
) -> tuple[Concept, ...]:
    """The concepts that are no place, with pictures that turn wrong without them."""
    usual, labels = find_usual(shown.images), evidence.labels.cpu().numpy()
    drawn = []
    for one in concepts:
        if one.kind in CHANGES:
            rows = np.flatnonzero(turned[one.kind] & (labels == classes.index(one.class_name)))[:PER_CONCEPT]
            images = []
            for row in rows.tolist():
                image = shown.images[row : row + 1]
                before, after = (shown.thumbnail(each) for each in (image, CHANGES[one.kind](image, usual)))
                images.append(ConceptImage(shown.paths[row], encode_picture(before), encode_picture(after), True))
            one = dataclasses.replace(one, images=tuple(images))
        drawn.append(one)
    return tuple(drawn)
