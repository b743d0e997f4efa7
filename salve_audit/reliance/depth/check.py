"""Whether another way of taking the same places out agrees: their bounding box covered with one colour.

The measure fills a place from what is around it. Its errors would be those of that filling: a ghost of the thing that
is left where the surroundings are like it, or a smooth patch that is itself a change. So the check shares neither
shape nor content with it: a box instead of the outline, the mean colour of all pictures instead of the surroundings.
Blurring the place would keep the thing's own colour, as a filling may, and a piece of another class's picture brings
evidence of its own. Against known truth (eight networks of the depth benchmark) that is what happens: some classes on
one cue, where the truth is 1, lose only 0.0 to 0.5 when it is blurred; classes on nothing lose 0.2 to 0.9 when another
picture is pasted over. A box covers more than the place and has edges, so the check errs towards turning a picture:
classes on nothing lose up to 0.4 with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from salve_audit.reliance.depth.assess import DepthFindings, piece_effects
from salve_audit.reliance.depth.network import Probe, hard_margin
from salve_audit.reliance.depth.pieces import Evidence
from salve_audit.reliance.depth.regions import to_pixels
from salve_audit.reliance.survival import wilson
from salve_audit.results import OcclusionCheck


@dataclass(frozen=True)
class Cover:
    """What is covered, and with what.

    Attributes:
        pieces: (n, j) pieces of evidence that are covered, one after another.
        colour: (1, c, 1, 1) in prepared units.
    """

    pieces: Bool[np.ndarray, "n j"]
    colour: Float[Tensor, "1 c 1 1"]


def check_by_occlusion(
    probe: Probe, images: Float[Tensor, "n c h w"], evidence: Evidence, findings: DepthFindings, batch_size: int
) -> dict[int, OcclusionCheck]:
    """By class: does covering the places of its strongest concept turn the same pictures as filling them?

    One pass for every piece of these concepts. Classes without any piece are left out.

    Args:
        images: prepared, on the device of the probe; all pictures of `evidence`.
        evidence: the pieces.
        findings: of the same evidence.
        batch_size: pictures at once.
    """
    cover = Cover(checked_pieces(evidence, findings), images.mean((0, 2, 3), keepdim=True))
    turned = turn_under_cover(probe, images, evidence, cover, batch_size)
    return describe_checks(evidence, findings, turned)


def checked_concepts(findings: DepthFindings) -> dict[int, int]:
    """By class the index of the concept that is checked: the one it rests on, else the one most pictures show."""
    chosen: dict[int, int] = {}
    for index, one in enumerate(findings.concepts):  # of a class, the most frequent first
        chosen.setdefault(one.label, index)
    return chosen | {one.label: one.concept for one in findings.classes if one.concept is not None}


def checked_pieces(evidence: Evidence, findings: DepthFindings) -> Bool[np.ndarray, "n j"]:
    """The pieces of the checked concepts."""
    pieces = np.zeros(tuple(evidence.alone.shape), bool)
    for index in checked_concepts(findings).values():
        concept = findings.concepts[index]
        pieces[concept.pictures, concept.pieces] = True
    return pieces


def turn_under_cover(
    probe: Probe, images: Float[Tensor, "n c h w"], evidence: Evidence, cover: Cover, batch_size: int
) -> Bool[np.ndarray, " n"]:
    """Pictures that turn wrong when any one of their pieces named in `cover` is covered."""
    rows, pieces = np.nonzero(cover.pieces)
    turned = np.zeros(len(images), bool)
    for start in range(0, len(rows), batch_size):
        some, which = (torch.from_numpy(one[start : start + batch_size]) for one in (rows, pieces))
        boxes = bound_regions(evidence.regions[some, which][:, None]).to(images)
        inside = to_pixels(boxes, (images.shape[2], images.shape[3]))
        covered = images[some.to(images.device)] * (1 - inside) + cover.colour.to(images) * inside
        with torch.no_grad():
            logits = probe(covered).logits.cpu()  # where the evidence is
        wrong = (hard_margin(logits, evidence.labels[some]) <= 0) & evidence.correct[some]
        np.logical_or.at(turned, some.numpy(), wrong.numpy())
    return turned


def bound_regions(regions: Bool[Tensor, "b 1 gh gw"]) -> Float[Tensor, "b 1 gh gw"]:
    """The smallest box around each region, 1 inside: upright, so that a stripe's box is no larger than the stripe."""
    sides = []
    for axis in (3, 2):
        hit = regions.any(axis, keepdim=True).float()
        along = 5 - axis
        before, after = hit.cummax(along).values, hit.flip(along).cummax(along).values.flip(along)
        sides.append(before * after)
    return sides[0] * sides[1]


def describe_checks(
    evidence: Evidence, findings: DepthFindings, turned: Bool[np.ndarray, " n"]
) -> dict[int, OcclusionCheck]:
    """By class, from what `turn_under_cover` gives for all pictures."""
    found = {}
    for label, index in checked_concepts(findings).items():
        concept, own = findings.concepts[index], evidence.labels.numpy() == label
        shown = np.unique(concept.pictures)
        measured, covered = piece_effects(evidence, concept)[shown], turned[shown]
        n, same, lost = len(shown), int((measured == covered).sum()), int(covered.sum())
        low, high = wilson(same, n)
        size = int(own.sum())
        occluded_low, occluded_high = wilson(lost, size)
        found[label] = OcclusionCheck(
            concept=index,
            n=n,
            agreement=same / n,
            low=low,
            high=high,
            kappa=measure_kappa(measured, covered),
            occluded=lost / size,
            occluded_low=occluded_low,
            occluded_high=occluded_high,
        )
    return found


def measure_kappa(one: Bool[np.ndarray, " n"], other: Bool[np.ndarray, " n"]) -> float | None:
    """Agreement beyond what the two shares alone give; None: both say the same of every picture.

    Source: Cohen, "A coefficient of agreement for nominal scales", 1960.
    """
    p, q = float(one.mean()), float(other.mean())
    by_chance = p * q + (1 - p) * (1 - q)
    return None if by_chance >= 1 else (float((one == other).mean()) - by_chance) / (1 - by_chance)
