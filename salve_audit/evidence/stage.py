"""The image reliance stage: the images that are examined, their evidence, and the record, or why there is none.

It is handed a classifier, images and paths, and knows neither the audit's configuration nor its subject.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.activations.actors import OpenActors
from salve_audit.activations.images import first_images
from salve_audit.activations.spread import spread_rows
from salve_audit.activations.store import FP32
from salve_audit.activations.streams import copy_for_streams
from salve_audit.errors import DataError, SalveError
from salve_audit.evidence.background_stage import BackgroundInputs, BackgroundOutcome, measure_background
from salve_audit.evidence.concept_file import serialise_concepts
from salve_audit.evidence.drawing import ShownImages, draw_concepts, draw_factors
from salve_audit.evidence.examine import AuditedNetwork, Controls, examined_images, search_evidence
from salve_audit.evidence.factors.class_means import ClassMeans, gather_class_means
from salve_audit.evidence.factors.measure import TIED, predict
from salve_audit.evidence.fast_network import Clock, choose_run_precision
from salve_audit.evidence.findings import EvidenceFindings
from salve_audit.evidence.images import EvidenceImages
from salve_audit.evidence.looks import RegionSources
from salve_audit.evidence.lost_images import LostImages, Removals, mark_lost
from salve_audit.evidence.parts import PartStore
from salve_audit.evidence.probe import watch_network
from salve_audit.evidence.projection_fitting import ConceptProjections, project_concepts
from salve_audit.evidence.properties import add_looks
from salve_audit.evidence.records import add_factors, describe_classes, describe_concepts
from salve_audit.evidence.removals import ExaminedNetwork, remove_projected
from salve_audit.evidence.search import Evidence, find_heat
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.inputs.data.masks import ObjectMasks
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.results import ClassReliance, Concept, EvidenceInfo
from salve_audit.spatial.blocks import first_block
from salve_audit.spatial.cut import CutNetwork
from salve_audit.spatial.layers import SpatialLayer, TraceLayers, find_spatial_layers, trace_layers

log = logging.getLogger(__name__)
METHOD = (
    "In each image the regions that speak for its class are found by integrated gradients and filled in from their "
    "surroundings, the strongest first, until the prediction flips; evidence regions of the same kind are one concept. "
    "Whether a prediction depends on a region is decided by the mean of two margins: without the region, and, counted "
    "twice, without a square around its middle. Global factors (strips along the edges, colour, mean field, sharpness, "
    "noise) are brought to the other classes' values in its images, and to its own in theirs; blur and compression are "
    "only put into other classes' images."
)
TRACED = 4  # images that layers are found on
PER_ROUND = (10, 20, 30, 40)  # images of a class: a few of every one first; below 30 it is thin
PROJECTED, REMOVED = 0.83, 0.9  # of the time, by when no more concepts are fitted, or removed inside the network
CONTROLS, MOST_CONTROLS = 16, 256  # images of every other class beside classes that are examined again, and of all


@dataclass(frozen=True)
class EvidenceInputs:
    """Network, images and settings that image reliance is measured with.

    Attributes:
        classifier: the network, on any device.
        images: the image set that `paths` belong to.
        paths: of the audit split, in its order.
        labels: (n,) class indices of the audit split.
        head: that the audit works on.
        classes: names in output order.
        fragility: (k,) the smaller, the sooner a class is examined; nan: last.
        device: where the network runs.
        workers: decoding processes.
        seed: of every random draw.
        layer: module whose activations distinguish evidence regions; None: the network's first block.
        seconds: of wall time that the measure may take; None: as long as it takes, as where a limit judges the numbers.
        sizes: images of the classes to examine, by class index, the first ones first, beside a few of the others as
            control; empty: of every class as many as there is time for.
        precision: of the backbone pass, in which predictions agree.
        with_images: concepts are shown with images.
        masks: where objects are, as the data say; None: they do not.
        trace: of a `LayerMemo`, so that other stages share the trace of the network; None: passes of its own.
        advance: is told how far it is, see `EvidenceImages`.
        parts: gives a store for the batches of the search that its name describes; None: nothing is kept of it.
        rounds: images of a class that each round adds, after the first only where it is undecided.
        actors: starts copies of the network on a cluster; None: this process runs it.
    """

    classifier: Classifier
    images: ImageSet
    paths: Sequence[str]
    labels: Int[np.ndarray, " n"]
    head: LinearHead
    classes: Sequence[str]
    fragility: Float[np.ndarray, " k"]
    device: torch.device
    workers: int
    seed: int
    layer: str | None = None
    seconds: float | None = None
    sizes: Mapping[int, int] = field(default_factory=dict)
    precision: str = FP32
    with_images: bool = True
    masks: ObjectMasks | None = None
    trace: TraceLayers | None = None
    advance: Callable[[int, int], None] | None = None
    parts: Callable[[str], PartStore] | None = None
    rounds: Sequence[int] = PER_ROUND
    actors: OpenActors | None = None


@dataclass(frozen=True)
class EvidenceOutcome:
    """The result of the stage.

    Attributes:
        classes: with their image reliance, where it was measured.
        concepts: evidence regions and global factors that classes depend on, in the order of audit.json.
        evidence: how it was measured, or why it was not.
        projections: of the concepts, for an edit; None: nothing was measured.
        means: statistics of global factors by class, for the explanation of single images.
        lost: the images that were examined, and what the strongest removal of their class did to each; None: none was.
    """

    classes: tuple[ClassReliance, ...]
    concepts: tuple[Concept, ...]
    evidence: EvidenceInfo
    projections: ConceptProjections | None = None
    means: ClassMeans = field(default_factory=ClassMeans)
    lost: LostImages | None = None

    def serialise(self, hashes: Mapping[str, str]) -> bytes | None:
        """The content of concepts.safetensors with these hashes of the model and data; None: nothing was measured."""
        return (
            None
            if self.projections is None
            else serialise_concepts(self.projections, self.concepts, hashes, self.means)
        )


def measure_evidence(inputs: EvidenceInputs, classes: Sequence[ClassReliance]) -> EvidenceOutcome:
    """Measure image reliance and redundancy of the classes that there is time for, or record why nothing is measured.

    Called with seconds left it measures the most fragile classes first, and returns those that it has finished.

    Args:
        inputs: network, images and settings.
        classes: with their thresholds, in any order; they are returned with their findings.
    """
    try:
        return _measure(inputs, classes)
    except SalveError as error:
        return absent_evidence(classes, f"{error.what}: {error.why}")
    except MemoryError:
        return absent_evidence(classes, "its images do not fit into memory")


def absent_evidence(classes: Sequence[ClassReliance], why: str) -> EvidenceOutcome:
    """Make the outcome of a stage that measured nothing, with the reason."""
    return EvidenceOutcome(tuple(classes), (), EvidenceInfo(METHOD, why_absent=why))


@dataclass(frozen=True)
class _Run:
    """A finished search: the network, the images, their evidence and its findings."""

    network: AuditedNetwork
    images: EvidenceImages
    evidence: Evidence
    findings: EvidenceFindings
    trace: TraceLayers | None


def _measure(inputs: EvidenceInputs, classes: Sequence[ClassReliance]) -> EvidenceOutcome:
    network = _prepare(inputs)
    first, *later = _choose(inputs)
    log.info("evidence regions in %d images, and %d more of undecided classes", len(first), sum(map(len, later)))
    images = EvidenceImages(
        inputs.images, inputs.paths, inputs.labels, network.classifier.transform, first, inputs.workers, later=later
    )
    images.advance = inputs.advance
    if inputs.parts is not None:
        network = dataclasses.replace(network, parts=inputs.parts(f"{first.tolist()} {network.precision}"))
    evidence, findings, controls = search_evidence(network, images)
    run = _Run(network, images, evidence, findings, inputs.trace)
    concepts, projections, removed = _remove_inside(run, inputs.classes)
    sources = RegionSources(images.load, images.path, images.spec)
    concepts = add_looks(concepts, findings, evidence, sources, network.rng("properties"))
    concepts = tuple(
        dataclasses.replace(concept, insertion=controls.insertions.get(concept.index)) for concept in concepts
    )
    described, lost = _describe(inputs, run, controls, concepts)
    n_left = len(np.unique(inputs.labels)) - len(np.unique(evidence.labels))
    info = EvidenceInfo(
        METHOD,
        network.layer.name,
        int(np.bincount(evidence.labels.numpy()).max()),
        evidence.n_passes + controls.n_passes + removed.n_passes + described.n_passes,
        n_left,
        n_images=len(evidence.labels),
        share_of_audit=len(evidence.labels) / len(inputs.labels),
        not_removed=removed.why_absent,
        why_left_out=f"the time for it was over ({inputs.seconds:g} s, --evidence-budget)" if n_left else "",
    )
    measured = tuple(
        dataclasses.replace(record, image_reliance=described.records.get(record.index)) for record in classes
    )
    means = gather_class_means(controls.factors.statistics, len(inputs.classes))
    return EvidenceOutcome(measured, described.concepts, info, projections, means, lost)


def _describe(
    inputs: EvidenceInputs, run: _Run, controls: Controls, concepts: tuple[Concept, ...]
) -> tuple[BackgroundOutcome, LostImages]:
    """Records of the classes, all concepts, and what the strongest removal did to each image."""
    answers, examined = controls.factors.answers, examined_images(run.evidence)
    records = describe_classes(run.findings, controls.chance, controls.checks)
    records, concepts = add_factors(records, concepts, answers, examined, inputs.classes)
    if inputs.with_images:
        concepts = _draw(concepts, run, controls, inputs.classes)
    described = BackgroundOutcome(records, concepts, 0, np.full(len(examined.labels), np.nan))
    if inputs.masks is not None:
        exchanged = BackgroundInputs(
            run.network, run.images, run.evidence, inputs.masks, inputs.classes, inputs.with_images
        )
        described = measure_background(exchanged, records, concepts)
    removals = Removals(run.evidence, run.findings, answers, examined, described.lost)
    lost = mark_lost(described.records, described.concepts, removals)
    return described, LostImages(run.images.rows, examined.labels, lost)


@dataclass(frozen=True)
class _Removed:
    """What removing concepts inside the network cost, and why it failed, if it did."""

    n_passes: int = 0
    why_absent: str = ""


def _remove_inside(run: _Run, classes: Sequence[str]) -> tuple[tuple[Concept, ...], ConceptProjections, _Removed]:
    """Fit the projections, and describe the concepts with what their removal at the projections' layer does."""
    concepts = describe_concepts(run.findings, run.network.layer.name, classes)
    projections = _project(run)
    if not projections.projections:
        return concepts, projections, _Removed()
    network = ExaminedNetwork(
        run.network.classifier, run.network.head, _find_layer(run, projections.layer), run.images.load, classes
    )
    late = partial(run.network.clock.is_past, REMOVED)
    outcome = remove_projected(network, projections.projections, run.evidence, run.findings, run.network.rng, late)
    concepts = tuple(dataclasses.replace(concept, removal=outcome.removals.get(concept.index)) for concept in concepts)
    return concepts, projections, _Removed(outcome.n_passes, outcome.why_absent)


def _find_layer(run: _Run, name: str) -> SpatialLayer:
    """Find the layer of the projections, which have its name alone."""
    first = run.images.load(np.arange(min(TRACED, len(run.images)))).to(run.network.device)
    return next(layer for layer in find_spatial_layers(run.network.classifier, first, run.trace) if layer.name == name)


def _project(run: _Run) -> ConceptProjections:
    """Fit the projections, or say why there are none; a failure is none of the measure, which does not need them."""
    network = run.network
    try:
        return project_concepts(
            network.classifier,
            network.layer,
            run.evidence,
            run.findings,
            run.images.load,
            network.head,
            run.trace,
            late=partial(network.clock.is_past, PROJECTED),
        )
    except SalveError as error:
        why = f"{error.what}: {error.why}"
    except (RuntimeError, MemoryError) as error:
        why = f"projections could not be fitted ({error})"
    log.warning("no concept can be removed from the weights: %s", why)
    return ConceptProjections(why_absent=why)


def _draw(concepts: tuple[Concept, ...], run: _Run, controls: Controls, classes: Sequence[str]) -> tuple[Concept, ...]:
    """Add images to the concepts."""
    network = run.network
    with watch_network(network.classifier, network.layer, network.head) as probe:

        def heat(images: Float[Tensor, "m c h w"], labels: Int[Tensor, " m"]) -> Float[Tensor, "m 1 gh gw"]:
            return find_heat(probe, images.to(network.device), labels.to(network.device)).cpu()

        def answer(images: Float[Tensor, "m c h w"]) -> list[str]:
            with torch.no_grad():
                predicted = predict(probe(images.to(network.device)).logits.float().cpu())
            return ["" if label == TIED else classes[label] for label in predicted.tolist()]

        shown = ShownImages(run.images.load, run.images.path, network.classifier.transform, heat, answer)
        concepts = draw_concepts(concepts, run.findings, run.evidence, shown, classes)
        return draw_factors(concepts, controls.factors, run.evidence, shown, classes)


def _prepare(inputs: EvidenceInputs) -> AuditedNetwork:
    """Copy the network to its device, and choose the layer whose activations distinguish evidence regions."""
    clock = Clock(inputs.seconds)
    (classifier,) = copy_for_streams(inputs.classifier, inputs.device, 1)
    first = read_first_images(classifier, inputs.images, inputs.paths, TRACED).to(inputs.device)
    layer = choose_evidence_layer(classifier, first, inputs.layer, inputs.trace)
    precision = choose_run_precision(classifier, layer, inputs.head, first, inputs.precision)
    return AuditedNetwork(
        classifier, layer, inputs.head, inputs.device, inputs.seed, precision, clock, actors=inputs.actors
    )


def read_first_images(
    classifier: Classifier, images: ImageSet, paths: Sequence[str], n: int
) -> Float[Tensor, "n c h w"]:
    """Read the first audit images that can be read, at most n, prepared for the network.

    Raises:
        DataError: none can be read.
    """
    prepared = first_images(images.reader, tuple(paths), classifier.transform, n)
    if not len(prepared):
        raise DataError(str(images.root), "no image to audit can be read")
    return prepared


def choose_evidence_layer(
    classifier: Classifier, images: Float[Tensor, "n c h w"], name: str | None, trace: TraceLayers | None = None
) -> SpatialLayer:
    """Choose the named layer, verified on a few images, or the first block without a name.

    Raises:
        LayerError: it is no spatial layer, the network cannot be cut there, or there is no spatial layer at all.
    """
    if name is None:
        return first_block(classifier.model, find_spatial_layers(classifier, images, trace))
    path, known = str(classifier.path), tuple(module for module, _ in classifier.model.named_modules())
    layer = (trace or trace_layers)(classifier, images).find(name, path, known)
    with CutNetwork(classifier.model, layer, classifier.reader, path) as cut:
        cut.verify(images)
    return layer


def _choose(inputs: EvidenceInputs) -> list[Int[np.ndarray, " m"]]:
    """Choose the rows of each round."""
    if inputs.sizes:
        return [choose_again(inputs.labels, inputs.sizes)]
    return choose_rounds(inputs.labels, inputs.fragility, inputs.rounds)


def choose_rounds(
    labels: Int[np.ndarray, " n"], fragility: Float[np.ndarray, " k"], sizes: Sequence[int] = PER_ROUND
) -> list[Int[np.ndarray, " m"]]:
    """Choose images spread evenly over each class, round by round, in each the most fragile class first.

    Args:
        labels: of the audit split.
        fragility: the smaller, the sooner a class is examined; nan: last.
        sizes: images of a class in each round.
    """
    present = np.unique(labels)
    order = present[np.argsort(np.where(np.isnan(fragility), np.inf, fragility)[present], kind="stable")]
    left, rounds = [np.flatnonzero(labels == label) for label in order], []
    for n in sizes:
        rounds.append(np.concatenate([spread_rows(rows, n) for rows in left]))
        left = [np.setdiff1d(rows, rounds[-1]) for rows in left]
    return rounds


def choose_again(labels: Int[np.ndarray, " n"], sizes: Mapping[int, int]) -> Int[np.ndarray, " m"]:
    """Choose so many images of these classes, after a few of the other classes as control.

    Args:
        labels: of the audit split.
        sizes: images by class index; the first classes are chosen first.
    """
    others = [label for label in np.unique(labels).tolist() if label not in sizes]
    each = max(1, min(CONTROLS, MOST_CONTROLS // max(1, len(others))))
    chosen = [spread_rows(np.flatnonzero(labels == label), each) for label in others[:MOST_CONTROLS]]
    chosen += [spread_rows(np.flatnonzero(labels == label), n) for label, n in sizes.items()]
    return np.concatenate(chosen)
