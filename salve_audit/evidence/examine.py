"""The search for evidence over all images of the sample, part by part: regions, findings and controls."""

from __future__ import annotations

import copy
import dataclasses
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.activations.actors import OpenActors
from salve_audit.errors import LayerError
from salve_audit.evidence.alike import CellPool, pool_cells, to_cells
from salve_audit.evidence.controls import (
    N_DRAWS,
    Cover,
    checked_slots,
    describe_checks,
    flips_at_random,
    flips_under_cover,
    summarise_chance,
)
from salve_audit.evidence.elsewhere import ProbeWorker
from salve_audit.evidence.factors import place
from salve_audit.evidence.factors.class_means import ClassStatistics
from salve_audit.evidence.factors.measure import (
    ExaminedImages,
    FactorNetwork,
    FactorOutcome,
    FactorRuns,
)
from salve_audit.evidence.fast_network import Clock, FastNetwork, choose_batch_size, watch_streams
from salve_audit.evidence.findings import THIN, EvidenceFindings, Share, assess_evidence
from salve_audit.evidence.images import EvidenceImages
from salve_audit.evidence.insertion import insert_regions
from salve_audit.evidence.parts import PartStore
from salve_audit.evidence.probe import Probe, RunPrecision
from salve_audit.evidence.regions import choose_grid
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
from salve_audit.reliance.survival import wilson
from salve_audit.results import ConceptInsertion, OcclusionCheck
from salve_audit.spatial.layers import SpatialLayer

POOLED = 24  # images of all classes, which say how alike cells are by chance
NARROW = 0.25  # 95 % interval of a class's share: no more images are searched
SEARCHED = 0.5  # of the time, at most, by when the search ends
COMPARED = 0.75  # by when no more global factors are begun: insertions and concepts take the rest


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
        actors: starts copies of the network on a cluster; None: this process has them.
    """

    classifier: Classifier
    layer: SpatialLayer
    head: LinearHead
    device: torch.device
    seed: int
    precision: RunPrecision = field(default_factory=RunPrecision)
    clock: Clock = field(default_factory=Clock)
    parts: PartStore | None = None
    actors: OpenActors | None = None

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
        insertions: of concepts into other classes' images.
        n_passes: forward passes of one image.
    """

    chance: Mapping[int, Share]
    factors: FactorOutcome
    checks: Mapping[int, OcclusionCheck]
    insertions: Mapping[int, ConceptInsertion]
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
    try:
        with _open(network) as fast:
            evidence = _search(fast, images)
            findings = assess_evidence(evidence, network.rng("concepts"))
            controls = _ControlRuns(fast, images, evidence, findings).measure(network.rng("random places"))
    except (RuntimeError, MemoryError) as error:  # a backward pass of the network's own code
        raise LayerError(str(network.classifier.path), f"the search failed ({summarise_error(error)})") from error
    return evidence, findings, controls


@contextmanager
def _open(network: AuditedNetwork) -> Iterator[FastNetwork]:
    """The network's streams in this process, and its copies on a cluster where there is one."""
    asked = network.classifier, network.layer, network.head, network.precision
    with watch_streams(*asked, network.clock, network.parts) as fast:
        if network.actors is None:
            yield fast
            return
        with network.actors(ProbeWorker, asked, network.device.type) as pool:
            yield dataclasses.replace(fast, pool=pool)


def _search(fast: FastNetwork, images: EvidenceImages) -> Evidence:
    """Search the first images of every class, then more of those whose share of lost images is not known well enough.

    Ends when all classes are decided, there are no more images, or the time is over. Which regions are alike is judged
    once all images of a class are there.

    Raises:
        LayerError: no class was finished in time.
    """
    pool, parts = _pool(fast, images), list[Evidence]()
    for labels, part in images.read_first():
        if not _add_part(fast, parts, labels, part, pool):
            break
    n_finished = images.keep_finished(sum(len(part.labels) for part in parts))
    if not n_finished:
        raise LayerError("image reliance", f"no class was finished within {fast.clock.seconds:g} s")
    joined = join_evidence(parts)
    n_passes = joined.n_passes + (0 if pool is None else len(pool.labels))
    evidence = dataclasses.replace(joined.take(slice(n_finished)), n_passes=n_passes)
    for rows in images.later:
        wanted = rows[np.isin(images.audit_labels[rows], list_undecided(evidence))]
        parts = [evidence]
        for labels, part in images.read_more(wanted):
            if not _add_part(fast, parts, labels, part, pool):
                break
        evidence = join_evidence(parts)
        images.keep(len(evidence.labels))
    return _judge(fast, images, merge_alike(evidence))


def list_undecided(evidence: Evidence) -> list[int]:
    """List the classes with few images, or whose share of images that some region flips has too wide an interval."""
    labels, flips = evidence.labels.numpy(), evidence.flips.any(1).numpy()
    undecided = []
    for label in np.unique(labels).tolist():
        own = flips[labels == label]
        low, high = wilson(int(own.sum()), len(own))
        if len(own) < THIN or high - low > NARROW:
            undecided.append(label)
    return undecided


def _pool(fast: FastNetwork, images: EvidenceImages) -> CellPool | None:
    """What cells look like in a few images of as many classes as there are among them."""
    labels, few = images.peek(POOLED)
    if not len(few):
        return None
    parts = fast.batches(len(few), (few.shape[2], few.shape[3]))
    grid = choose_grid(int(few.shape[2]), int(few.shape[3]))
    with torch.no_grad():
        cells = [to_cells(fast.probe(few[rows].to(fast.device)).maps, grid) for rows in parts]
    return pool_cells(torch.cat(cells), labels.to(fast.device))


def _add_part(fast: FastNetwork, parts: list[Evidence], labels: Tensor, images: Tensor, pool: CellPool | None) -> bool:
    """Search a part, and say whether all of it was in time."""
    n_before, batches = len(parts), fast.batches(len(images), (images.shape[2], images.shape[3]))
    parts += _search_part(fast, images.to(fast.device), labels.to(fast.device), batches, pool)
    return len(parts) - n_before == len(batches)


def _search_part(
    fast: FastNetwork, images: Tensor, labels: Int[Tensor, " n"], batches: list[slice], pool: CellPool | None
) -> list[Evidence]:
    """Evidence batch by batch, up to the first that would have begun too late."""

    clock = fast.clock  # the work may be sent: it holds no more than it needs

    def work(probe: Probe, rows: slice) -> Evidence | None:
        if clock.is_past(SEARCHED):
            return None
        settings = SearchSettings(batch_size=rows.stop - rows.start, merged=False)
        return find_evidence(probe, images[rows], labels[rows], settings, pool)

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

        def work(probe: Probe, item: tuple[_Batch, np.random.Generator]) -> tuple[np.ndarray, np.ndarray, int]:
            (batch, places), size = item, len(item[0].images)
            moved, n_passes = flips_at_random(probe, batch.images, batch.evidence, size, places)
            cover = Cover(checked[batch.rows], colour)
            return moved, flips_under_cover(probe, batch.images, batch.evidence, cover, size), n_passes

        batches = _iterate_batches(self.fast, self.images, evidence)
        moved, covered, passes = zip(*self.fast.map(work, _with_generators(batches, rng)), strict=True)
        factors = self._run_factors()
        inserted = insert_regions(self.fast, self.images, evidence, self.findings, rng)
        return Controls(
            chance=summarise_chance(evidence, np.concatenate(moved)),
            factors=factors,
            checks=describe_checks(evidence, self.findings, np.concatenate(covered)),
            insertions=inserted.insertions,
            n_passes=factors.n_passes + inserted.n_passes + sum(passes) + int(checked.sum()),
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
        evidence = self.evidence
        places = place.find_places(evidence.heat, evidence.labels, evidence.correct)
        given = {place.NAME: ClassStatistics(places, torch.ones(len(places)))} if places.any() else {}

        def late() -> bool:
            return fast.clock.is_past(COMPARED)

        return FactorRuns(network, self.images, examined_images(evidence), late, given).measure()


def examined_images(evidence: Evidence) -> ExaminedImages:
    """Labels and correctness of the images, as the global factors need them."""
    return ExaminedImages(evidence.labels.cpu().numpy(), evidence.clean.double().cpu().numpy())


def _with_generators(
    batches: Iterable[_Batch], rng: np.random.Generator
) -> Iterator[tuple[_Batch, np.random.Generator]]:
    """Each batch with the generator as it would be once those before had drawn their places from it."""
    for batch in batches:
        yield batch, copy.deepcopy(rng)
        rng.random((len(batch.images), N_DRAWS, 2))
