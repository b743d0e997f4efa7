"""The search for evidence over all images of the sample, part by part: regions, findings and controls."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from salve_audit.errors import LayerError
from salve_audit.evidence.controls import (
    FACTORS,
    Batches,
    ChannelStatistics,
    Cover,
    checked_slots,
    count_passes,
    describe_checks,
    flips_at_random,
    flips_under,
    flips_under_cover,
    measure_channels,
    share_with_wilson,
    summarise_chance,
)
from salve_audit.evidence.findings import EvidenceFindings, Share, assess_evidence
from salve_audit.evidence.images import EvidenceImages
from salve_audit.evidence.probe import Probe, watch_network
from salve_audit.evidence.records import choose_factors
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
        flipped: by global factor, images (n,) that are misclassified without it.
        factor_chance: by class that loses more without a global factor than without a concept, the share under the
            control of that factor.
        checks: by class, whether covering the same places agrees.
        channel_stats: mean and standard deviation of the channels over the images.
        n_passes: forward passes of one image.
    """

    chance: Mapping[int, Share]
    flipped: Mapping[str, Bool[np.ndarray, " n"]]
    factor_chance: Mapping[int, Share]
    checks: Mapping[int, OcclusionCheck]
    channel_stats: ChannelStatistics
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
        evidence, findings, channel_stats = self.evidence, self.findings, measure_channels(self.images.spread())
        checked = checked_slots(evidence, findings)
        moved, covered = [], []
        flipped: dict[str, list[np.ndarray]] = {name: [] for name in FACTORS}
        for positions, part in self.images.parts():
            images, own = part.to(self.device), evidence.take(positions)
            size, cover = _batch_size(images), Cover(checked[positions], channel_stats[0])
            moved.append(flips_at_random(self.probe, images, own, size, rng))
            covered.append(flips_under_cover(self.probe, images, own, cover, size))
            for name, factor in FACTORS.items():
                flipped[name].append(flips_under(self.probe, Batches(images, own, size), factor.remove, channel_stats))
        factors = {name: np.concatenate(parts) for name, parts in flipped.items()}
        reliance = {finding.label: finding.reliance.value for finding in findings.classes}
        chosen = choose_factors(reliance, factors, evidence.labels.numpy())
        return Controls(
            chance=summarise_chance(evidence, np.concatenate(moved)),
            flipped=factors,
            factor_chance={label: self._factor_chance(label, kind, channel_stats) for label, kind in chosen.items()},
            checks=describe_checks(evidence, findings, np.concatenate(covered)),
            channel_stats=channel_stats,
            n_passes=len(factors) * len(evidence.labels)
            + count_passes(evidence)
            + int(checked.sum())
            + sum(int((evidence.labels == label).sum()) for label in chosen),
        )

    def _factor_chance(self, label: int, kind: str, channel_stats: ChannelStatistics) -> Share:
        """Share of the class's images that flip under the factor's control.

        Classes that depend on a global factor are few, so their images are read once more.
        """
        rows, flipped = np.flatnonzero(self.evidence.labels.numpy() == label), []
        for start in range(0, len(rows), self.images.most):
            part = rows[start : start + self.images.most]
            images = self.images.load(part).to(self.device)
            batches = Batches(images, self.evidence.take(part), _batch_size(images))
            flipped.append(flips_under(self.probe, batches, FACTORS[kind].control, channel_stats))
        return share_with_wilson(np.concatenate(flipped)[:, None])


def _batch_size(images: Float[Tensor, "n c h w"]) -> int:
    pixels = BATCH_PIXELS * (ON_GPU if images.device.type != "cpu" else 1)
    return max(1, min(BATCH, pixels // (images.shape[2] * images.shape[3])))
