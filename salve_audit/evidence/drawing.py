"""Images that show a concept: outlined, as a heat map, with it removed, and images of other classes with it put in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from salve_audit.activations.spread import spread_rows
from salve_audit.evidence.factors.bank import FACTORS
from salve_audit.evidence.factors.measure import TIED, UNSEEN, FactorOutcome
from salve_audit.evidence.factors.record import Shift, change_prepared
from salve_audit.evidence.findings import ConceptFinding, EvidenceFindings
from salve_audit.evidence.regions import fill_regions, to_pixels
from salve_audit.evidence.search import Evidence
from salve_audit.results import Concept, ConceptImage, InsertedImage
from salve_audit.results.transform import TransformSpec
from salve_audit.saliency.heat import outline, shade
from salve_audit.saliency.thumbnails import encode_image, fit_side, resize_heat, resize_pixels, to_display_pixels

MOST_CLASSES = 16
PER_CLASS = 2  # concepts
PER_CONCEPT = 4  # images
INSERTED = 3  # of these, of the concept that matters most, are put into other classes' images too


@dataclass(frozen=True)
class ShownImages:
    """Access to the few images that are drawn.

    Attributes:
        load: rows (m,) of `Evidence` -> prepared images (m, c, h, w).
        path: row -> path of the image.
        spec: how images were prepared.
        heat: images (m, c, h, w), classes (m,) -> evidence (m, 1, gh, gw) for them, 0 or more.
        answer: images (m, c, h, w) -> name of the class that each gets; "" where two share the largest logit.
    """

    load: Callable[[Int[np.ndarray, " m"]], Float[Tensor, "m c h w"]]
    path: Callable[[int], str]
    spec: TransformSpec
    heat: Callable[[Float[Tensor, "m c h w"], Int[Tensor, " m"]], Float[Tensor, "m 1 gh gw"]]
    answer: Callable[[Float[Tensor, "m c h w"]], list[str]]

    def thumbnail(self, image: Float[Tensor, "1 c h w"]) -> UInt8[np.ndarray, "s t 3"]:
        """Convert one prepared image to the pixels that are shown."""
        pixels = to_display_pixels(image.numpy(), self.spec.mean, self.spec.std)[0]
        return resize_pixels(pixels, fit_side(pixels.shape[0], pixels.shape[1]))

    def inserted(
        self,
        rows: Int[np.ndarray, " m"],
        labels: Int[np.ndarray, " m"],
        images: Float[Tensor, "m c h w"],
        classes: Sequence[str],
    ) -> list[InsertedImage]:
        """Describe images of other classes, of these rows and labels, after something was put into them."""
        if not len(rows):
            return []
        return [
            InsertedImage(self.path(row), classes[label], encode_image(self.thumbnail(images[i : i + 1])), predicted)
            for i, (row, label, predicted) in enumerate(
                zip(rows.tolist(), labels.tolist(), self.answer(images), strict=True)
            )
        ]


def draw_concepts(
    concepts: tuple[Concept, ...],
    findings: EvidenceFindings,
    evidence: Evidence,
    shown: ShownImages,
    classes: Sequence[str],
) -> tuple[Concept, ...]:
    """Add images to the concepts that each class loses most without, of each concept those that lose most margin.

    Args:
        concepts: of the audit, in the order of `findings.concepts`.
        findings: of the evidence.
        evidence: on the processor.
        shown: access to the images.
        classes: names in output order.
    """
    order = sorted(findings.concepts, key=lambda concept: -concept.effect[concept.label].value)
    labels = list(dict.fromkeys(concept.label for concept in order))[:MOST_CLASSES]
    drawn = list(concepts)
    for label in labels:
        own = [index for index, concept in enumerate(findings.concepts) if concept.label == label]
        own.sort(key=lambda index: -findings.concepts[index].effect[label].value)
        for index in own[:PER_CLASS]:
            images = _draw(findings.concepts[index], evidence, shown)
            if index == own[0]:
                images = _show_both_ways(images, findings.concepts[index], evidence, shown, classes)
            drawn[index] = dataclasses.replace(drawn[index], images=images)
    return tuple(drawn)


def _draw(concept: ConceptFinding, evidence: Evidence, shown: ShownImages) -> tuple[ConceptImage, ...]:
    """The images that lose most margin without the concept."""
    rows, slots = _strongest(concept, evidence)
    images = shown.load(rows)
    size = (int(images.shape[2]), int(images.shape[3]))
    regions = _regions(evidence, rows, slots, size)
    every = evidence.regions[torch.from_numpy(rows)].float().cpu()
    stronger = torch.arange(every.shape[1]) < torch.from_numpy(slots)[:, None]
    removed = to_pixels((every * stronger[:, :, None, None]).amax(1, keepdim=True), size)
    heat = shown.heat(fill_regions(images, removed), evidence.labels[torch.from_numpy(rows)])
    drawn = []
    for i, (row, slot) in enumerate(zip(rows.tolist(), slots.tolist(), strict=True)):
        image, region = images[i : i + 1], regions[i : i + 1]
        before, after = shown.thumbnail(image), shown.thumbnail(fill_regions(image, region))
        sides = (before.shape[0], before.shape[1])
        mask = resize_heat(region[0, 0].numpy(), sides) > 0.5
        coloured = outline(shade(before, resize_heat(heat[i, 0].numpy(), sides)), mask)
        drawn.append(
            ConceptImage(
                path=shown.path(row),
                outlined=encode_image(outline(before, mask)),
                without=encode_image(after),
                flipped=bool(evidence.flips[row, slot]),
                heat=encode_image(coloured),
            )
        )
    return tuple(drawn)


def _show_both_ways(
    images: tuple[ConceptImage, ...],
    concept: ConceptFinding,
    evidence: Evidence,
    shown: ShownImages,
    classes: Sequence[str],
) -> tuple[ConceptImage, ...]:
    """Add to the images of a concept what they become without it, and what others become with it at the same place."""
    rows, slots = _strongest(concept, evidence)
    loaded = shown.load(rows)
    regions = _regions(evidence, rows, slots, (int(loaded.shape[2]), int(loaded.shape[3])))
    without = shown.answer(fill_regions(loaded, regions))
    others, labels = choose_others(evidence, concept.label, min(INSERTED, len(rows)))
    n = len(others)
    pasted = shown.load(others) * (1 - regions[:n]) + loaded[:n] * regions[:n] if n else loaded[:0]
    inserted = shown.inserted(others, labels, pasted, classes)
    return tuple(
        dataclasses.replace(
            image,
            image=encode_image(shown.thumbnail(loaded[i : i + 1])),
            predicted=without[i],
            inserted=inserted[i] if i < n else None,
        )
        for i, image in enumerate(images)
    )


def choose_others(evidence: Evidence, label: int, most: int) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Choose correct images of other classes, evenly over them, and their labels."""
    labels, correct = evidence.labels.cpu().numpy(), evidence.correct.cpu().numpy()
    others = np.flatnonzero((labels != label) & correct)
    chosen = spread_rows(others, most)
    return chosen, labels[chosen]


def _strongest(concept: ConceptFinding, evidence: Evidence) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Rows and slots of the images that lose most margin without the concept."""
    alone = evidence.alone[concept.images, concept.slots].cpu().numpy()
    first = np.argsort(alone, kind="stable")[:PER_CONCEPT]
    return concept.images[first], concept.slots[first]


def _regions(
    evidence: Evidence, rows: Int[np.ndarray, " m"], slots: Int[np.ndarray, " m"], size: tuple[int, int]
) -> Float[Tensor, "m 1 h w"]:
    """One region of each of these images, in pixels."""
    every = evidence.regions[torch.from_numpy(rows)].float().cpu()
    return to_pixels(every[torch.arange(len(rows)), torch.from_numpy(slots)][:, None], size)


def draw_factors(
    concepts: tuple[Concept, ...],
    outcome: FactorOutcome,
    evidence: Evidence,
    shown: ShownImages,
    classes: Sequence[str],
) -> tuple[Concept, ...]:
    """Add images that are misclassified without them to the concepts that are global factors.

    Args:
        concepts: of the audit; those that are evidence regions stay as they are.
        outcome: predictions without each factor.
        evidence: of the same images.
        shown: access to the images.
        classes: names in output order.
    """
    labels = evidence.labels.cpu().numpy()
    factors = [index for index, concept in enumerate(concepts) if concept.factor]
    drawn = list(concepts)
    for index in sorted(factors, key=lambda index: -concepts[index].effect[0].drop)[:MOST_CLASSES]:
        concept = concepts[index]
        label, removed = classes.index(concept.class_name), outcome.answers[concept.factor].removed
        flipped = (labels == label) & (removed != label) & (removed != UNSEEN) & evidence.correct.cpu().numpy()
        rows = np.flatnonzero(flipped)[:PER_CONCEPT]
        shift, remove = outcome.statistics[concept.factor].away(torch.tensor([label])), FACTORS[concept.factor].remove
        assert remove is not None, "no class depends on what cannot be removed"
        loaded, images = shown.load(rows), []
        inserted = _insert_factor(concept.factor, label, loaded, (outcome, evidence), shown, classes)
        for i, row in enumerate(rows.tolist()):
            image = loaded[i : i + 1]
            without = change_prepared(image, shown.spec, remove, shift)
            before, after = (encode_image(shown.thumbnail(version)) for version in (image, without))
            becomes = "" if removed[row] == TIED else classes[removed[row]]
            put_in = inserted[i] if i < len(inserted) else None
            images.append(ConceptImage(shown.path(row), before, after, True, predicted=becomes, inserted=put_in))
        drawn[index] = dataclasses.replace(concept, images=tuple(images))
    return tuple(drawn)


def _insert_factor(
    name: str,
    label: int,
    donors: Float[Tensor, "m c h w"],
    measured: tuple[FactorOutcome, Evidence],
    shown: ShownImages,
    classes: Sequence[str],
) -> list[InsertedImage]:
    """Bring a few images of other classes to a class's global factor; none where it cannot be inserted."""
    outcome, evidence = measured
    insert = FACTORS[name].insert
    others, labels = choose_others(evidence, label, min(INSERTED, len(donors)))
    if insert is None or not len(others):
        return []
    own, statistics = torch.full((len(others),), label), outcome.statistics[name]
    shift = Shift(statistics.others(own), statistics.own(own), donors[: len(others)])
    return shown.inserted(others, labels, change_prepared(shown.load(others), shown.spec, insert, shift), classes)
