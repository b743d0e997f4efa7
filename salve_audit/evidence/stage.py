"""The image reliance stage: the images that are examined, their evidence, and the record, or why there is none.

It is handed a classifier, images and paths, and knows neither the audit's configuration nor its subject.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.activations.images import first_images
from salve_audit.activations.spread import spread_rows
from salve_audit.activations.store import FP32
from salve_audit.activations.streams import copy_for_streams
from salve_audit.errors import DataError, LayerError, SalveError
from salve_audit.evidence.background_stage import BackgroundInputs, measure_background
from salve_audit.evidence.concept_file import serialise_concepts
from salve_audit.evidence.drawing import ShownImages, draw_concepts, draw_factors
from salve_audit.evidence.examine import AuditedNetwork, Controls, examined_images, search_evidence
from salve_audit.evidence.factors.class_means import ClassMeans, gather_class_means
from salve_audit.evidence.factors.measure import TIED, predict
from salve_audit.evidence.fast_network import (
    Clock,
    FastNetwork,
    choose_batch_size,
    choose_run_precision,
    run_gradient,
    watch_streams,
)
from salve_audit.evidence.findings import EvidenceFindings
from salve_audit.evidence.images import EvidenceImages
from salve_audit.evidence.looks import RegionSources
from salve_audit.evidence.parts import PartStore
from salve_audit.evidence.probe import Probe, watch_network
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
    "Whether a prediction depends on a region is decided by the mean of three margins: without the region, and without "
    "squares of two sizes around its middle. Global factors (strips along the edges, colour, mean field, sharpness, "
    "compression) are brought to the other classes' values in its images, and to its own in theirs."
)
TRACED = 4  # images that layers are found on
PER_CLASS = (100, 60, 40, 30)  # images; fewer where time is short, and below 30 a class is thin: rather fewer classes
GRADIENTS, FORWARDS = 5, 14  # runs of a single image, about, controls included
ROUNDS = 2  # of a batch that is timed
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


@dataclass(frozen=True)
class EvidenceOutcome:
    """The result of the stage.

    Attributes:
        classes: with their image reliance, where it was measured.
        concepts: evidence regions and global factors that classes depend on, in the order of audit.json.
        evidence: how it was measured, or why it was not.
        projections: of the concepts, for an edit; None: nothing was measured.
        means: statistics of global factors by class, for the explanation of single images.
    """

    classes: tuple[ClassReliance, ...]
    concepts: tuple[Concept, ...]
    evidence: EvidenceInfo
    projections: ConceptProjections | None = None
    means: ClassMeans = field(default_factory=ClassMeans)

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
    sample = _choose(inputs, network)
    log.info("evidence regions in %d images, at most %d per class", len(sample.rows), sample.n_per_class)
    images = EvidenceImages(
        inputs.images, inputs.paths, inputs.labels, network.classifier.transform, sample.rows, inputs.workers
    )
    images.advance = inputs.advance
    if inputs.parts is not None:
        network = dataclasses.replace(network, parts=inputs.parts(f"{sample.rows.tolist()} {network.precision}"))
    evidence, findings, controls = search_evidence(network, images)
    run = _Run(network, images, evidence, findings, inputs.trace)
    concepts, projections, removed = _remove_inside(run, inputs.classes)
    sources = RegionSources(images.load, images.path, images.spec)
    concepts = add_looks(concepts, findings, evidence, sources, network.rng("properties"))
    records = describe_classes(findings, controls.chance, controls.checks)
    examined = examined_images(evidence)
    records, concepts = add_factors(records, concepts, controls.factors.answers, examined, inputs.classes)
    if inputs.with_images:
        concepts = _draw(concepts, run, controls, inputs.classes)
    n_exchanged = 0
    if inputs.masks is not None:
        exchanged = BackgroundInputs(network, images, evidence, inputs.masks, inputs.classes, inputs.with_images)
        records, concepts, n_exchanged = measure_background(exchanged, records, concepts)
    n_left = len(np.unique(inputs.labels)) - len(np.unique(evidence.labels))
    info = EvidenceInfo(
        METHOD,
        network.layer.name,
        sample.n_per_class,
        evidence.n_passes + controls.n_passes + removed.n_passes + n_exchanged,
        n_left,
        n_images=len(evidence.labels),
        share_of_audit=len(evidence.labels) / len(inputs.labels),
        not_removed=removed.why_absent,
        why_left_out=f"the time for it was over ({inputs.seconds:g} s, --evidence-budget)" if n_left else "",
    )
    measured = tuple(dataclasses.replace(record, image_reliance=records.get(record.index)) for record in classes)
    means = gather_class_means(controls.factors.statistics, len(inputs.classes))
    return EvidenceOutcome(measured, concepts, info, projections, means)


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
    outcome = remove_projected(network, projections.projections, run.evidence, run.findings, run.network.rng)
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
            network.classifier, network.layer, run.evidence, run.findings, run.images.load, network.head, run.trace
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
    return AuditedNetwork(classifier, layer, inputs.head, inputs.device, inputs.seed, precision, clock)


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


@dataclass(frozen=True)
class Sample:
    """Images to examine.

    Attributes:
        rows: (n,) of the audit split, class by class, the most fragile class first.
        n_per_class: images per class, at most.
    """

    rows: Int[np.ndarray, " n"]
    n_per_class: int


def _choose(inputs: EvidenceInputs, network: AuditedNetwork) -> Sample:
    """Choose the sample that there is time for, by what a real batch takes."""
    if inputs.seconds is None:
        return _choose_for(inputs, None)
    size = choose_batch_size(network.classifier.transform.input_size[1:], network.device)
    batch = read_first_images(network.classifier, inputs.images, inputs.paths, size).to(network.device)
    with watch_streams(network.classifier, network.layer, network.head, network.precision, network.clock) as fast:
        seconds = time_image(fast, batch)
    log.info("%.0f ms an image", 1000 * seconds)
    return _choose_for(inputs, int(inputs.seconds / seconds))


def _choose_for(inputs: EvidenceInputs, affordable: int | None) -> Sample:
    if inputs.sizes:
        return choose_again(inputs.labels, inputs.sizes, affordable)
    return choose_sample(inputs.labels, inputs.fragility, affordable)


def time_image(fast: FastNetwork, batch: Float[Tensor, "n c h w"]) -> float:
    """Measure the seconds that the examination of an image will take about, by a batch on each stream."""

    def run(probe: Probe, forward: bool) -> None:
        with torch.no_grad():
            _ = probe(batch) if forward else run_gradient(probe, batch)

    total = 0.0
    for forward, n_runs in ((True, FORWARDS), (False, GRADIENTS)):
        best = float("inf")
        for _ in range(ROUNDS):
            start = time.perf_counter()
            fast.map(run, [forward] * len(fast.probes))
            best = min(best, time.perf_counter() - start)
        total += n_runs * best
    return total / (len(batch) * len(fast.probes))


def choose_sample(labels: Int[np.ndarray, " n"], fragility: Float[np.ndarray, " k"], affordable: int | None) -> Sample:
    """Choose images spread evenly over each class, the most fragile class first.

    Args:
        labels: of the audit split.
        fragility: the smaller, the sooner a class is examined; nan: last.
        affordable: images that there is time for, about; None: as many as wanted. Where even few of each class are too
            many, the sample is larger, and the time ends the search.
    """
    present = np.unique(labels)
    order = present[np.argsort(np.where(np.isnan(fragility), np.inf, fragility)[present], kind="stable")]
    there = np.array([np.count_nonzero(labels == label) for label in order])
    fitting = (n for n in PER_CLASS if affordable is None or np.minimum(there, n).sum() <= affordable)
    per_class = next(fitting, PER_CLASS[-1])
    rows = [spread_rows(np.flatnonzero(labels == label), per_class) for label in order]
    return Sample(np.concatenate(rows), per_class)


def choose_again(labels: Int[np.ndarray, " n"], sizes: Mapping[int, int], affordable: int | None) -> Sample:
    """Choose so many images of these classes, as far as there is time, after a few of the other classes as control.

    Args:
        labels: of the audit split.
        sizes: images by class index; the first classes are chosen first, and none in part.
        affordable: images that there is time for, about; None: any number.

    Raises:
        LayerError: there is no time for any of the classes.
    """
    others = [label for label in np.unique(labels).tolist() if label not in sizes]
    each = max(1, min(CONTROLS, MOST_CONTROLS // max(1, len(others))))
    chosen = [spread_rows(np.flatnonzero(labels == label), each) for label in others[:MOST_CONTROLS]]
    left = math.inf if affordable is None else affordable - sum(map(len, chosen))
    n_controls = len(chosen)
    for label, n in sizes.items():
        rows = spread_rows(np.flatnonzero(labels == label), n)
        if len(rows) > left:
            break
        chosen.append(rows)
        left -= len(rows)
    if len(chosen) == n_controls:
        raise LayerError("image reliance", "the time does not suffice for more images of any class")
    return Sample(np.concatenate(chosen), max(map(len, chosen)))
