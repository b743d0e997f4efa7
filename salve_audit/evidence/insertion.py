"""Evidence regions inserted into other classes' images: whether the thing alone is enough for the prediction.

Removal says that a class needs a region, insertion that it is sufficient. Regions of a class's strongest concept are
pasted, with soft edges, at their own places into correct images of other classes. The control pastes the same shape
from a random place of the same images, at that place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from salve_audit.activations.spread import spread_rows
from salve_audit.evidence.controls import checked_concepts, move_inside
from salve_audit.evidence.fast_network import FastNetwork
from salve_audit.evidence.findings import ConceptFinding, EvidenceFindings
from salve_audit.evidence.images import EvidenceImages
from salve_audit.evidence.probe import Probe, hard_margin
from salve_audit.evidence.regions import to_pixels
from salve_audit.evidence.search import Evidence
from salve_audit.reliance.survival import wilson
from salve_audit.results import ConceptInsertion

RECIPIENTS, DONORS = 16, 8  # images of other classes, and of the class, for each concept
MOST_CLASSES = 50  # whose regions are inserted, the most dependent first


@dataclass(frozen=True)
class InsertionOutcome:
    """What inserting regions does, by index of the concept.

    Attributes:
        insertions: of each class's strongest concept, where it was measured.
        n_passes: forward passes of one image.
    """

    insertions: Mapping[int, ConceptInsertion]
    n_passes: int


def insert_regions(
    fast: FastNetwork,
    images: EvidenceImages,
    evidence: Evidence,
    findings: EvidenceFindings,
    rng: np.random.Generator,
) -> InsertionOutcome:
    """Insert the regions of each class's strongest concept while there is time.

    Args:
        fast: the network.
        images: of the evidence.
        evidence: on the processor.
        findings: of the same evidence.
        rng: draws the random places.
    """
    labels, correct = evidence.labels.numpy(), evidence.correct.numpy()
    found, n_passes = {}, 0
    strongest = sorted(findings.classes, key=lambda finding: -finding.reliance.value)
    chosen = checked_concepts(findings)
    for finding in [finding for finding in strongest if finding.label in chosen][:MOST_CLASSES]:
        others = np.flatnonzero((labels != finding.label) & correct)
        if fast.clock.is_past() or not len(others):
            break
        index = chosen[finding.label]
        donors = _choose_donors(findings.concepts[index], evidence)
        recipients = spread_rows(others, RECIPIENTS)
        at = np.resize(np.arange(len(donors)), len(recipients))
        regions = evidence.regions[torch.from_numpy(donors[at, 0]), torch.from_numpy(donors[at, 1])]
        moved = torch.stack([move_inside(region, tuple(rng.random(2))) for region in regions])
        given, source = images.load(recipients), images.load(donors[:, 0])[torch.from_numpy(at)]
        pulled = [_count_pulled(fast, given, source, masks, finding.label) for masks in (regions, moved)]
        found[index] = _describe(*pulled)
        n_passes += 2 * len(recipients)
    return InsertionOutcome(found, n_passes)


def _choose_donors(concept: ConceptFinding, evidence: Evidence) -> Int[np.ndarray, "d 2"]:
    """Rows and slots of the concept's regions whose images lose most margin without them."""
    alone = evidence.alone[torch.from_numpy(concept.images), torch.from_numpy(concept.slots)].numpy()
    first = np.argsort(alone, kind="stable")[:DONORS]
    return np.stack([concept.images[first], concept.slots[first]], 1)


def _count_pulled(
    fast: FastNetwork,
    images: Float[Tensor, "n c h w"],
    donors: Float[Tensor, "n c h w"],
    regions: Bool[Tensor, "n gh gw"],
    label: int,
) -> Bool[np.ndarray, " n"]:
    """Mark images that become the class with the donor's region pasted over them."""
    size = (int(images.shape[2]), int(images.shape[3]))
    masks = soften(to_pixels(regions[:, None].float(), size), max(size) // 32)

    device = fast.device

    def work(probe: Probe, rows: slice) -> Tensor:
        mixed = images[rows] * (1 - masks[rows]) + donors[rows] * masks[rows]
        with torch.no_grad():
            logits = probe(mixed.to(device)).logits.float().cpu()
        return hard_margin(logits, torch.full((len(logits),), label)) > 0

    pulled: Bool[np.ndarray, " n"] = torch.cat(fast.map(work, fast.batches(len(images), size))).numpy()
    return pulled


def soften(masks: Float[Tensor, "n 1 h w"], radius: int) -> Float[Tensor, "n 1 h w"]:
    """Let masks fall off to 0 inside their edges over about `radius` pixels."""
    if radius < 1:
        return masks
    width = 2 * radius + 1
    padded = functional.pad(masks, (radius,) * 4, mode="replicate")
    return masks * functional.avg_pool2d(padded, width, 1)


def _describe(pulled: Bool[np.ndarray, " n"], control: Bool[np.ndarray, " n"]) -> ConceptInsertion:
    n = len(pulled)
    low, high = wilson(int(pulled.sum()), n)
    _, chance_high = wilson(int(control.sum()), n)
    return ConceptInsertion(n, float(pulled.mean()), low, high, float(control.mean()), chance_high)
