"""Pictures that show a concept: with it outlined, as a heat map, and with it taken out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from salve_audit.inputs.classifier import TransformSpec
from salve_audit.reliance.depth.assess import ConceptFinding, DepthFindings
from salve_audit.reliance.depth.evidence import Evidence
from salve_audit.reliance.depth.filling import fill_regions
from salve_audit.reliance.depth.regions import to_pixels as to_cells
from salve_audit.reliance.depth.whole import CHANGES, Usual
from salve_audit.results import Concept, ConceptImage
from salve_audit.saliency.heat import outline, shade
from salve_audit.saliency.thumbnails import encode_picture, fit_side, resize_heat, resize_pixels, to_pixels

MOST_CLASSES = 16
PER_CLASS = 2  # concepts
PER_CONCEPT = 4  # pictures


@dataclass(frozen=True)
class ShownPictures:
    """Where the few pictures that are drawn come from.

    Attributes:
        load: prepared pictures (m, c, h, w) by their rows of `Evidence`.
        path: of one of them.
        spec: how they were prepared.
        usual: mean and spread of their channels.
        heat: evidence (m, 1, gh, gw) for the classes (m,) in pictures (m, c, h, w), 0 or more.
    """

    load: Callable[[Int[np.ndarray, " m"]], Float[Tensor, "m c h w"]]
    path: Callable[[int], str]
    spec: TransformSpec
    usual: Usual
    heat: Callable[[Float[Tensor, "m c h w"], Int[Tensor, " m"]], Float[Tensor, "m 1 gh gw"]]

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
    rows, pieces = one.pictures[places], one.pieces[places]
    images = shown.load(rows)
    size = (int(images.shape[2]), int(images.shape[3]))
    every = evidence.regions[torch.from_numpy(rows)].float().cpu()
    regions = to_cells(every[torch.arange(len(rows)), torch.from_numpy(pieces)][:, None], size)
    before_it = torch.arange(every.shape[1]) < torch.from_numpy(pieces)[:, None]
    gone = to_cells((every * before_it[:, :, None, None]).amax(1, keepdim=True), size)
    heat = shown.heat(fill_regions(images, gone), evidence.labels[torch.from_numpy(rows)])
    drawn = []
    for place, (row, piece) in enumerate(zip(rows.tolist(), pieces.tolist(), strict=True)):
        image, region = images[place : place + 1], regions[place : place + 1]
        before, after = shown.thumbnail(image), shown.thumbnail(fill_regions(image, region))
        sides = (before.shape[0], before.shape[1])
        mask = resize_heat(region[0, 0].numpy(), sides) > 0.5
        coloured = outline(shade(before, resize_heat(heat[place, 0].numpy(), sides)), mask)
        drawn.append(
            ConceptImage(
                path=shown.path(row),
                outlined=encode_picture(outline(before, mask)),
                without=encode_picture(after),
                lost=bool(evidence.flips[row, piece]),
                heat=encode_picture(coloured),
            )
        )
    return tuple(drawn)


def draw_wholes(
    concepts: tuple[Concept, ...],
    turned: Mapping[str, Bool[np.ndarray, " n"]],
    evidence: Evidence,
    shown: ShownPictures,
    classes: Sequence[str],
) -> tuple[Concept, ...]:
    """The concepts that are no place, with pictures that turn wrong without them."""
    labels = evidence.labels.cpu().numpy()
    wholes = [index for index, one in enumerate(concepts) if one.kind in CHANGES]
    drawn = list(concepts)
    for index in sorted(wholes, key=lambda index: -concepts[index].effect[0].drop)[:MOST_CLASSES]:
        one = concepts[index]
        own = labels == classes.index(one.class_name)
        rows = np.flatnonzero(turned[one.kind] & own)[:PER_CONCEPT]
        pictures, images = shown.load(rows), []
        for place, row in enumerate(rows.tolist()):
            image = pictures[place : place + 1]
            before, after = (shown.thumbnail(each) for each in (image, CHANGES[one.kind](image, shown.usual)))
            images.append(ConceptImage(shown.path(row), encode_picture(before), encode_picture(after), True))
        drawn[index] = dataclasses.replace(one, images=tuple(images))
    return tuple(drawn)
