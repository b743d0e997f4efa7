"""What regions are compared with: random places, and an occlusion check.

Chance: what is lost without some place of the image, as large as the evidence, but anywhere.

Occlusion check: the bounding box of the same places covered with one colour. The measure fills a place from what is
around it. Its errors would be those of that filling: a ghost of the thing that is left where the surroundings are like
it, or a smooth patch that is itself a change. So the check shares neither shape nor content with it: a box instead of
the outline, the mean colour of all images instead of the surroundings. Blurring the place would leave the thing's own
colour, as a filling may, and a patch of another class's image brings evidence of its own. Against known truth (eight
networks of the evidence benchmark) that is what happens: some classes on one cue, where the truth is 1, lose only 0.0
to 0.5 when it is blurred; classes on nothing lose 0.2 to 0.9 when another image is pasted over. A box covers more than
the place and has edges, so the check errs towards flipping a prediction: classes on nothing lose up to 0.4 with it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from salve_audit.activations.spread import spread_rows
from salve_audit.evidence.findings import ConceptFinding, EvidenceFindings, Share, flips_without_concept
from salve_audit.evidence.probe import Probe, hard_margin
from salve_audit.evidence.regions import fill_regions, to_pixels
from salve_audit.evidence.search import Evidence, judge_with_squares
from salve_audit.reliance.survival import wilson
from salve_audit.results import OcclusionCheck

N_DRAWS = 1  # random places per image
MOST_COVERED = 10  # images of a class whose regions are covered as well as filled


def flip_at_random(
    probe: Probe, images: Float[Tensor, "n c h w"], evidence: Evidence, batch_size: int, rng: np.random.Generator
) -> dict[int, Share]:
    """Measure chance by class: the share of images misclassified without a random place shaped like their first region.

    Args:
        probe: the network.
        images: prepared, on the probe's device; all images of `evidence`.
        evidence: of `find_evidence`, on the processor.
        batch_size: images at once.
        rng: draws the places.
    """
    flipped, _ = flips_at_random(probe, images, evidence, batch_size, rng)
    return summarise_chance(evidence, flipped)


def flips_at_random(
    probe: Probe, images: Float[Tensor, "n c h w"], evidence: Evidence, batch_size: int, rng: np.random.Generator
) -> tuple[Bool[np.ndarray, "n t"], int]:
    """Mark correct images that are misclassified without a random place, in each of `N_DRAWS` draws; count the passes.

    The first region, as it is, is moved to a random place inside the image, and judged with squares as regions are.
    Draws are image by image: images given in several calls, with the same `rng`, get the same places.
    """
    first = evidence.regions[:, 0]
    shares = rng.random((len(first), N_DRAWS, 2))  # of the room that each has on each axis
    flipped, n_passes = torch.zeros(len(images), N_DRAWS, dtype=torch.bool), 0
    rows = torch.nonzero(evidence.correct & first.flatten(1).any(1))[:, 0]  # nothing else can flip
    for draw in range(N_DRAWS):
        pairs = zip(first, shares[:, draw].tolist(), strict=True)
        moved = torch.stack([move_inside(region, (down, along)) for region, (down, along) in pairs])
        margins = torch.full_like(evidence.clean, torch.nan)
        margins[rows] = _margins_without(probe, images, moved, evidence.labels, rows, batch_size)
        placed = dataclasses.replace(
            evidence,
            regions=moved[:, None],
            alone=margins[:, None],
            together=margins[:, None],
            signatures=evidence.signatures[:, :1],
        )
        judged = judge_with_squares(probe, images, placed, batch_size)
        flipped[:, draw] = judged.flips[:, 0]
        n_passes += len(rows) + judged.n_passes - placed.n_passes
    return flipped.numpy(), n_passes


def move_inside(region: Bool[Tensor, "gh gw"], shares: tuple[float, float]) -> Bool[Tensor, "gh gw"]:
    """Move the region so that its bounding box lies at these shares (0..1) of the room that it has on each axis."""
    if not region.any():
        return region
    offsets = []
    for axis, share in enumerate(shares):
        there = torch.nonzero(region.any(1 - axis))[:, 0]
        first, side = int(there[0]), int(there[-1] - there[0]) + 1
        offsets.append(int(share * (region.shape[axis] - side + 1)) - first)
    return torch.roll(region, tuple(offsets), (0, 1))


def _margins_without(
    probe: Probe,
    images: Float[Tensor, "n c h w"],
    regions: Bool[Tensor, "n gh gw"],
    labels: Int[Tensor, " n"],
    wanted: Int[Tensor, " r"],
    batch_size: int,
) -> Float[Tensor, " r"]:
    """Margins of the wanted images with their region filled in, on the processor, where the evidence is."""
    margins = [torch.empty(0)]
    for rows in torch.split(wanted, batch_size):
        removed = to_pixels(regions[rows, None].to(images), (images.shape[2], images.shape[3]))
        with torch.no_grad():
            logits = probe(fill_regions(images[rows.to(images.device)], removed)).logits.cpu()
        margins.append(hard_margin(logits, labels[rows]))
    return torch.cat(margins)


def summarise_chance(evidence: Evidence, flipped: Bool[np.ndarray, "n t"]) -> dict[int, Share]:
    """Average `flips_at_random` over images and draws, by class.

    The interval is Wilson's over images, as if there had been one draw of each: draws of one image are alike, and
    so it is rather too wide.
    """
    labels = evidence.labels.numpy()
    return {label: share_with_wilson(flipped[labels == label]) for label in np.unique(labels).tolist()}


def share_with_wilson(flipped: Bool[np.ndarray, "n t"]) -> Share:
    """Compute the share of all, with Wilson's interval of a share of n images; n > 0."""
    n, value = len(flipped), float(flipped.mean())
    low, high = wilson(round(value * n), n)
    return Share(value, min(low, value), max(high, value))


@dataclass(frozen=True)
class Cover:
    """Evidence regions to cover, and the colour to cover them with.

    Attributes:
        slots: (n, j) whether the region in the slot is covered; each by itself.
        colour: (1, c, 1, 1) in prepared units.
    """

    slots: Bool[np.ndarray, "n j"]
    colour: Float[Tensor, "1 c 1 1"]


def check_by_occlusion(
    probe: Probe, images: Float[Tensor, "n c h w"], evidence: Evidence, findings: EvidenceFindings, batch_size: int
) -> dict[int, OcclusionCheck]:
    """Compare, by class, covering the places of its strongest concept with filling them: which predictions flip.

    It costs a pass per region of these concepts in a few images. Classes without any region are left out.

    Args:
        probe: the network.
        images: prepared, on the device of the probe; all images of `evidence`.
        evidence: of `find_evidence`, on the processor.
        findings: of the same evidence.
        batch_size: images at once.
    """
    cover = Cover(checked_slots(evidence, findings), images.mean((0, 2, 3), keepdim=True))
    flipped = flips_under_cover(probe, images, evidence, cover, batch_size)
    return describe_checks(evidence, findings, flipped)


def checked_concepts(findings: EvidenceFindings) -> dict[int, int]:
    """Choose each class's checked concept, by index: the one it depends on, else the one most images show."""
    chosen: dict[int, int] = {}
    for index, concept in enumerate(findings.concepts):  # of a class, the most frequent first
        chosen.setdefault(concept.label, index)
    return chosen | {finding.label: finding.concept for finding in findings.classes if finding.concept is not None}


def checked_slots(evidence: Evidence, findings: EvidenceFindings) -> Bool[np.ndarray, "n j"]:
    """Mark the slots whose regions belong to a checked concept, in the images that it is checked in."""
    slots = np.zeros(tuple(evidence.alone.shape), bool)
    for index in checked_concepts(findings).values():
        concept = findings.concepts[index]
        some = np.isin(concept.images, checked_images(concept))
        slots[concept.images[some], concept.slots[some]] = True
    return slots


def checked_images(concept: ConceptFinding) -> Int[np.ndarray, " s"]:
    """Choose the images that a concept is checked in, spread over those that show it."""
    return spread_rows(np.unique(concept.images), MOST_COVERED)


def flips_under_cover(
    probe: Probe, images: Float[Tensor, "n c h w"], evidence: Evidence, cover: Cover, batch_size: int
) -> Bool[np.ndarray, " n"]:
    """Mark correct images that are misclassified when any single region in the cover's slots is covered."""
    rows, slots = np.nonzero(cover.slots)
    flipped = np.zeros(len(images), bool)
    for start in range(0, len(rows), batch_size):
        at, slot = (torch.from_numpy(indices[start : start + batch_size]) for indices in (rows, slots))
        boxes = bound_regions(evidence.regions[at, slot][:, None]).to(images)
        inside = to_pixels(boxes, (images.shape[2], images.shape[3]))
        covered = images[at.to(images.device)] * (1 - inside) + cover.colour.to(images) * inside
        with torch.no_grad():
            logits = probe(covered).logits.cpu()  # where the evidence is
        wrong = (hard_margin(logits, evidence.labels[at]) <= 0) & evidence.correct[at]
        np.logical_or.at(flipped, at.numpy(), wrong.numpy())
    return flipped


def bound_regions(regions: Bool[Tensor, "b 1 gh gw"]) -> Float[Tensor, "b 1 gh gw"]:
    """Mark the smallest box around each region; it is upright, so that a stripe's is no larger than the stripe."""
    sides = []
    for axis in (3, 2):
        hit = regions.any(axis, keepdim=True).float()
        along = 5 - axis
        before, after = hit.cummax(along).values, hit.flip(along).cummax(along).values.flip(along)
        sides.append(before * after)
    return sides[0] * sides[1]


def describe_checks(
    evidence: Evidence, findings: EvidenceFindings, flipped: Bool[np.ndarray, " n"]
) -> dict[int, OcclusionCheck]:
    """Summarise what `flips_under_cover` gives for all images, as a record by class index."""
    checks = {}
    for label, index in checked_concepts(findings).items():
        concept, own = findings.concepts[index], evidence.labels.numpy() == label
        shown = checked_images(concept)
        measured, covered = flips_without_concept(evidence, concept)[shown], flipped[shown]
        n, same, lost = len(shown), int((measured == covered).sum()), int(covered.sum())
        low, high = wilson(same, n)
        size, n_showing = int(own.sum()), len(np.unique(concept.images))  # the others lose nothing
        (shows_low, shows_high), (lost_low, lost_high) = wilson(n_showing, size), wilson(lost, n)
        checks[label] = OcclusionCheck(
            concept=index,
            n=n,
            agreement=same / n,
            low=low,
            high=high,
            kappa=measure_kappa(measured, covered),
            occluded=n_showing / size * lost / n,
            occluded_low=shows_low * lost_low,
            occluded_high=shows_high * lost_high,
        )
    return checks


def measure_kappa(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> float | None:
    """Measure agreement beyond what the two shares alone give; None: both give one answer for all images.

    Source: Cohen, "A coefficient of agreement for nominal scales", 1960.
    """
    p, q = float(first.mean()), float(second.mean())
    by_chance = p * q + (1 - p) * (1 - q)
    return None if by_chance >= 1 else (float((first == second).mean()) - by_chance) / (1 - by_chance)
