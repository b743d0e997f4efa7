"""The search for evidence over all images of the sample, part by part: regions, findings and controls."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.errors import LayerError
from salve_audit.evidence.controls import (
    Cover,
    checked_slots,
    count_passes,
    describe_checks,
    flips_at_random,
    flips_under_cover,
    summarise_chance,
)
from salve_audit.evidence.factors.measure import ExaminedImages, FactorNetwork, FactorOutcome, FactorRuns
from salve_audit.evidence.findings import EvidenceFindings, Share, assess_evidence
from salve_audit.evidence.images import EvidenceImages
from salve_audit.evidence.probe import Probe, watch_network
from salve_audit.evidence.search import (
    Evidence,
    SearchSettings,
    find_evidence,
    join_evidence,
    judge_with_squares,
    merge_alike,
)
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.inputs.reasons import summarise_error
from salve_audit.results import OcclusionCheck
from salve_audit.spatial.layers import SpatialLayer

BATCH, BATCH_PIXELS = 100, 2**18  # images at once, and pixels of theirs: a backward pass keeps every layer's output
ON_GPU = 4  # times the pixels, which a processor would not be faster with


@dataclass(frozen=True)
class AuditedNetwork:
    """The network whose evidence is searched.

    Attributes:
        classifier: on its device.
        layer: whose activations distinguish evidence regions.
        head: that the audit works on.
        device: where the network runs.
        seed: of every random draw.
    """

    classifier: Classifier
    layer: SpatialLayer
    head: LinearHead
    device: torch.device
    seed: int

    def rng(self, purpose: str) -> np.random.Generator:
        """Create a generator of its own for each purpose."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])


@dataclass(frozen=True)
class Controls:
    """Measurements that findings are compared with.

    Attributes:
        chance: by class, the share that is misclassified without a random place.
        factors: predictions with each global factor removed and inserted.
        checks: by class, whether covering the same places agrees.
        n_passes: forward passes of one image.
    """

    chance: Mapping[int, Share]
    factors: FactorOutcome
    checks: Mapping[int, OcclusionCheck]
    n_passes: int


def search_evidence(network: AuditedNetwork, images: EvidenceImages) -> tuple[Evidence, EvidenceFindings, Controls]:
    """Search the evidence of all images, assess it, and measure its controls.

    Args:
        network: on its device.
        images: afterwards those that could be read.

    Raises:
        LayerError: no image can be read, or the network fails.
    """
    classifier, layer = network.classifier, network.layer
    try:
        with watch_network(classifier, layer, network.head) as probe:
            evidence = _search(probe, network, images)
            findings = assess_evidence(evidence, network.rng("concepts"))
            runs = _ControlRuns(probe, network.device, images, evidence, findings)
            controls = runs.measure(network.rng("random places"))
    except (RuntimeError, MemoryError) as error:  # a backward pass of the network's own code
        raise LayerError(str(classifier.path), f"the search failed ({summarise_error(error)})") from error
    return evidence, findings, controls


def _search(probe: Probe, network: AuditedNetwork, images: EvidenceImages) -> Evidence:
    """Search part by part; which regions are alike is judged once all images of a class are there."""
    parts = []
    for labels, part in images.read_first():
        prepared = part.to(network.device)
        settings = SearchSettings(batch_size=_batch_size(prepared), merged=False)
        parts.append(find_evidence(probe, prepared, labels.to(network.device), settings))
    joined = join_evidence(parts)
    parts.clear()  # of a thousand classes a few hundred megabytes
    return _judge(probe, network, images, merge_alike(joined))


def _judge(probe: Probe, network: AuditedNetwork, images: EvidenceImages, evidence: Evidence) -> Evidence:
    """Judge the regions with squares as well, part by part."""
    parts = []
    for positions, part in images.parts():
        prepared = part.to(network.device)
        parts.append(judge_with_squares(probe, prepared, evidence.take(positions), _batch_size(prepared)))
    judged = join_evidence(parts)
    return dataclasses.replace(judged, n_passes=evidence.n_passes + judged.n_passes)


@dataclass(frozen=True)
class _ControlRuns:
    """The evidence with its findings, and the network for the runs that they are compared with."""

    probe: Probe
    device: torch.device
    images: EvidenceImages
    evidence: Evidence
    findings: EvidenceFindings

    def measure(self, rng: np.random.Generator) -> Controls:
        """Measure all controls, part by part; `rng` draws the random places."""
        evidence, findings = self.evidence, self.findings
        colour = self.images.spread().mean((0, 2, 3), keepdim=True)
        checked = checked_slots(evidence, findings)
        moved, covered = [], []
        for positions, part in self.images.parts():
            images, own = part.to(self.device), evidence.take(positions)
            size, cover = _batch_size(images), Cover(checked[positions], colour)
            moved.append(flips_at_random(self.probe, images, own, size, rng))
            covered.append(flips_under_cover(self.probe, images, own, cover, size))
        network = FactorNetwork(self.probe, self.images.spec, self.device, _batch_size)
        factors = FactorRuns(network, self.images, examined_images(evidence)).measure()
        return Controls(
            chance=summarise_chance(evidence, np.concatenate(moved)),
            factors=factors,
            checks=describe_checks(evidence, findings, np.concatenate(covered)),
            n_passes=factors.n_passes + count_passes(evidence) + int(checked.sum()),
        )


def examined_images(evidence: Evidence) -> ExaminedImages:
    """Labels and correctness of the images, as the global factors need them."""
    return ExaminedImages(evidence.labels.cpu().numpy(), evidence.correct.cpu().numpy())


def _batch_size(images: Float[Tensor, "n c h w"]) -> int:
    pixels = BATCH_PIXELS * (ON_GPU if images.device.type != "cpu" else 1)
    return max(1, min(BATCH, pixels // (images.shape[2] * images.shape[3])))
