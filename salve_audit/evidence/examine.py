"""The search for evidence over all images of the sample, part by part: regions, findings and controls."""

from __future__ import annotations

import copy
import dataclasses
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.errors import LayerError
from salve_audit.evidence.controls import (
    N_DRAWS,
    Cover,
    checked_slots,
    count_passes,
    describe_checks,
    flips_at_random,
    flips_under_cover,
    summarise_chance,
)
from salve_audit.evidence.factors.measure import ExaminedImages, FactorNetwork, FactorOutcome, FactorRuns
from salve_audit.evidence.fast_network import Clock, FastNetwork, choose_batch_size, watch_streams
from salve_audit.evidence.findings import EvidenceFindings, Share, assess_evidence
from salve_audit.evidence.images import EvidenceImages
from salve_audit.evidence.parts import PartStore
from salve_audit.evidence.probe import Probe, RunPrecision
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

SEARCHED = 0.6  # of the time, at most, by when the search ends: controls and concepts take the rest


@dataclass(frozen=True)
class AuditedNetwork:
    """The network whose evidence is searched.

    Attributes:
        classifier: on its device.
        layer: whose activations distinguish evidence regions.
        head: that the audit works on.
        device: where the network runs.
        seed: of every random draw.
        precision: of the passes.
        clock: of the measure.
        parts: see `FastNetwork`.
    """

    classifier: Classifier
    layer: SpatialLayer
    head: LinearHead
    device: torch.device
    seed: int
    precision: RunPrecision = field(default_factory=RunPrecision)
    clock: Clock = field(default_factory=Clock)
    parts: PartStore | None = None

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


@dataclass(frozen=True)
class _Batch:
    """Some of the images, on the device, with their evidence; `rows` are their positions among all."""

    images: Float[Tensor, "b c h w"]
    evidence: Evidence
    rows: slice


def search_evidence(network: AuditedNetwork, images: EvidenceImages) -> tuple[Evidence, EvidenceFindings, Controls]:
    """Search the evidence of all images, assess it, and measure its controls.

    Args:
        network: on its device, with a clock.
        images: class by class; afterwards those that could be read, of the classes that were finished in time.

    Raises:
        LayerError: no image can be read, no class was finished in time, or the network fails.
    """
    classifier, clock = network.classifier, network.clock
    try:
        with watch_streams(classifier, network.layer, network.head, network.precision, clock, network.parts) as fast:
            evidence = _search(fast, images)
            findings = assess_evidence(evidence, network.rng("concepts"))
            controls = _ControlRuns(fast, images, evidence, findings).measure(network.rng("random places"))
    except (RuntimeError, MemoryError) as error:  # a backward pass of the network's own code
        raise LayerError(str(classifier.path), f"the search failed ({summarise_error(error)})") from error
    return evidence, findings, controls


def _search(fast: FastNetwork, images: EvidenceImages) -> Evidence:
    """Search until the time is over; which regions are alike is judged once all images of a class are there.

    Raises:
        LayerError: no class was finished in time.
    """
    parts: list[Evidence] = []
    for labels, part in images.read_first():
        n_before = len(parts)
        batches = fast.batches(len(part), (part.shape[2], part.shape[3]))
        parts += _search_part(fast, part.to(fast.device), labels.to(fast.device), batches)
        if len(parts) - n_before < len(batches):
            break
    n_searched = sum(len(part.labels) for part in parts)
    n_finished = images.keep_finished(n_searched)
    if not n_finished:
        raise LayerError("image reliance", f"no class was finished within {fast.clock.seconds:g} s")
    joined = join_evidence(parts)
    parts.clear()  # of a thousand classes a few hundred megabytes
    finished = dataclasses.replace(joined.take(slice(n_finished)), n_passes=joined.n_passes)
    return _judge(fast, images, merge_alike(finished))


def _search_part(fast: FastNetwork, images: Tensor, labels: Int[Tensor, " n"], batches: list[slice]) -> list[Evidence]:
    """Evidence batch by batch, up to the first that would have begun too late."""

    def work(probe: Probe, rows: slice) -> Evidence | None:
        if fast.clock.is_past(SEARCHED):
            return None
        settings = SearchSettings(batch_size=rows.stop - rows.start, merged=False)
        return find_evidence(probe, images[rows], labels[rows], settings)

    return _until_late(fast.map(work, batches))


def _until_late(parts: Iterable[Evidence | None]) -> list[Evidence]:
    in_time = []
    for part in parts:
        if part is None:
            break
        in_time.append(part)
    return in_time


def _judge(fast: FastNetwork, images: EvidenceImages, evidence: Evidence) -> Evidence:
    """Judge the regions with squares as well."""

    def work(probe: Probe, batch: _Batch) -> Evidence:
        return judge_with_squares(probe, batch.images, batch.evidence, len(batch.images))

    judged = join_evidence(fast.map(work, _iterate_batches(fast, images, evidence)))
    return dataclasses.replace(judged, n_passes=evidence.n_passes + judged.n_passes)


def _iterate_batches(fast: FastNetwork, images: EvidenceImages, evidence: Evidence) -> Iterator[_Batch]:
    for positions, part in images.parts():
        for own in fast.batches(len(part), (part.shape[2], part.shape[3])):
            rows = slice(positions.start + own.start, positions.start + own.stop)
            yield _Batch(part[own].to(fast.device), evidence.take(rows), rows)


@dataclass(frozen=True)
class _ControlRuns:
    """The evidence with its findings, and the network for the runs that they are compared with."""

    fast: FastNetwork
    images: EvidenceImages
    evidence: Evidence
    findings: EvidenceFindings

    def measure(self, rng: np.random.Generator) -> Controls:
        """Measure all controls, batch by batch; `rng` draws the random places."""
        evidence, colour = self.evidence, self.images.spread().mean((0, 2, 3), keepdim=True)
        checked = checked_slots(evidence, self.findings)

        def work(probe: Probe, item: tuple[_Batch, np.random.Generator]) -> tuple[np.ndarray, np.ndarray]:
            (batch, places), size = item, len(item[0].images)
            moved = flips_at_random(probe, batch.images, batch.evidence, size, places)
            cover = Cover(checked[batch.rows], colour)
            return moved, flips_under_cover(probe, batch.images, batch.evidence, cover, size)

        batches = _iterate_batches(self.fast, self.images, evidence)
        columns = zip(*self.fast.map(work, _with_generators(batches, rng)), strict=True)
        moved, covered = (np.concatenate(column) for column in columns)
        factors = self._run_factors()
        return Controls(
            chance=summarise_chance(evidence, moved),
            factors=factors,
            checks=describe_checks(evidence, self.findings, covered),
            n_passes=factors.n_passes + count_passes(evidence) + int(checked.sum()),
        )

    def _run_factors(self) -> FactorOutcome:
        """Remove and insert the global factors while there is time."""
        fast = self.fast
        network = FactorNetwork(
            fast.probe,
            self.images.spec,
            fast.device,
            lambda images: choose_batch_size((images.shape[2], images.shape[3]), fast.device),
            fast.map,
        )
        return FactorRuns(network, self.images, examined_images(self.evidence), fast.clock.is_past).measure()


def examined_images(evidence: Evidence) -> ExaminedImages:
    """Labels and correctness of the images, as the global factors need them."""
    return ExaminedImages(evidence.labels.cpu().numpy(), evidence.correct.cpu().numpy())


def _with_generators(
    batches: Iterable[_Batch], rng: np.random.Generator
) -> Iterator[tuple[_Batch, np.random.Generator]]:
    """Each batch with the generator as it would be once those before had drawn their places from it."""
    for batch in batches:
        yield batch, copy.deepcopy(rng)
        rng.random((len(batch.images), N_DRAWS, 2))
