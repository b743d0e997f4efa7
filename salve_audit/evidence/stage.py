"""The image reliance stage: the images that are examined, their evidence, and the record, or why there is none.

It is handed a classifier, images and paths, and knows neither the audit's configuration nor its subject.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.activations.images import first_images
from salve_audit.activations.spread import spread_rows
from salve_audit.errors import DataError, SalveError
from salve_audit.evidence.concept_file import serialise_concepts
from salve_audit.evidence.drawing import ShownImages, draw_concepts, draw_factors
from salve_audit.evidence.examine import AuditedNetwork, Controls, examined_images, search_evidence
from salve_audit.evidence.findings import EvidenceFindings
from salve_audit.evidence.images import EvidenceImages
from salve_audit.evidence.probe import watch_network
from salve_audit.evidence.projection_fitting import ConceptProjections, project_concepts
from salve_audit.evidence.records import add_factors, describe_classes, describe_concepts
from salve_audit.evidence.removals import ExaminedNetwork, remove_projected
from salve_audit.evidence.search import Evidence, find_heat
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.results import ClassReliance, Concept, EvidenceInfo
from salve_audit.spatial.blocks import first_block
from salve_audit.spatial.cut import CutNetwork
from salve_audit.spatial.layers import SpatialLayer, TraceLayers, find_spatial_layers, trace_layers
from salve_audit.spatial.work import count_work

log = logging.getLogger(__name__)
METHOD = (
    "In each image the regions that speak for its class are found by integrated gradients and filled in from their "
    "surroundings, the strongest first, until the prediction flips; evidence regions of the same kind are one concept. "
    "Whether a prediction depends on a region is decided by the mean of three margins: without the region, and without "
    "squares of two sizes around its middle. Global factors (strips along the edges, colour, mean field, sharpness, "
    "compression) are brought to the other classes' values in its images, and to its own in theirs."
)
TRACED = 4  # images that layers are found on
ON_GPU = 50  # times the work that is affordable on a processor
MOST_PER_CLASS = 100  # images
LEAST_PER_CLASS = 30  # below it a class is thin: rather fewer classes
LEAST_CLASSES = 3
PASSES = 31.0  # of a single image, about: 24 for its evidence, the rest are controls
WORK = 6e12  # multiply-adds; a minute on two cores


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
        needed: a limit judges the numbers, so cost is no reason to leave anything out.
        with_images: concepts are shown with images.
        trace: of a `LayerMemo`, so that other stages share the trace of the network; None: passes of its own.
        advance: is told how far it is, see `EvidenceImages`.
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
    needed: bool = False
    with_images: bool = True
    trace: TraceLayers | None = None
    advance: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class EvidenceOutcome:
    """The result of the stage.

    Attributes:
        classes: with their image reliance, where it was measured.
        concepts: evidence regions and global factors that classes depend on, in the order of audit.json.
        evidence: how it was measured, or why it was not.
        projections: of the concepts, for an edit; None: nothing was measured.
    """

    classes: tuple[ClassReliance, ...]
    concepts: tuple[Concept, ...]
    evidence: EvidenceInfo
    projections: ConceptProjections | None = None

    def serialise(self, hashes: Mapping[str, str]) -> bytes | None:
        """The content of concepts.safetensors with these hashes of the model and data; None: nothing was measured."""
        return None if self.projections is None else serialise_concepts(self.projections, self.concepts, hashes)


def measure_evidence(inputs: EvidenceInputs, classes: Sequence[ClassReliance]) -> EvidenceOutcome:
    """Measure image reliance and redundancy of every class that can be afforded, or record why they are not measured.

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
    if sample is None:
        why = "the network is too large for it on this device (a GPU, or a limit on image reliance, turns it on)"
        return absent_evidence(classes, why)
    log.info("evidence regions in %d images, at most %d per class", len(sample.rows), sample.n_per_class)
    images = EvidenceImages(
        inputs.images, inputs.paths, inputs.labels, network.classifier.transform, sample.rows, inputs.workers
    )
    images.advance = inputs.advance
    evidence, findings, controls = search_evidence(network, images)
    run = _Run(network, images, evidence, findings, inputs.trace)
    concepts, projections, removed = _remove_inside(run, inputs.classes)
    records = describe_classes(findings, controls.chance, controls.checks)
    examined = examined_images(evidence)
    records, concepts = add_factors(records, concepts, controls.factors.answers, examined, inputs.classes)
    if inputs.with_images:
        concepts = _draw(concepts, run, controls, inputs.classes)
    info = EvidenceInfo(
        METHOD,
        network.layer.name,
        sample.n_per_class,
        evidence.n_passes + controls.n_passes + removed.n_passes,
        sample.n_classes_left_out,
        n_images=len(evidence.labels),
        share_of_audit=len(evidence.labels) / len(inputs.labels),
        not_removed=removed.why_absent,
    )
    measured = tuple(dataclasses.replace(record, image_reliance=records.get(record.index)) for record in classes)
    return EvidenceOutcome(measured, concepts, info, projections)


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

        shown = ShownImages(run.images.load, run.images.path, network.classifier.transform, heat)
        concepts = draw_concepts(concepts, run.findings, run.evidence, shown)
        return draw_factors(concepts, controls.factors, run.evidence, shown, classes)


def _prepare(inputs: EvidenceInputs) -> AuditedNetwork:
    """Move the network to its device, and choose the layer whose activations distinguish evidence regions."""
    classifier = inputs.classifier.on(inputs.device)
    first = read_first_images(classifier, inputs.images, inputs.paths, TRACED).to(inputs.device)
    layer = choose_evidence_layer(classifier, first, inputs.layer, inputs.trace)
    return AuditedNetwork(classifier, layer, inputs.head, inputs.device, inputs.seed)


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
        rows: (n,) of the audit split, class by class.
        n_per_class: images per class, at most.
        n_classes_left_out: less fragile classes that were too many.
    """

    rows: Int[np.ndarray, " n"]
    n_per_class: int
    n_classes_left_out: int


def _choose(inputs: EvidenceInputs, network: AuditedNetwork) -> Sample | None:
    """Choose the sample that can be afforded, by what a pass of one image costs."""
    image = read_first_images(network.classifier, inputs.images, inputs.paths, 1).to(network.device)
    model = network.classifier.model
    with torch.no_grad():
        work = count_work(model.modules(), lambda: model(image))
    allowed = WORK * (ON_GPU if network.device.type != "cpu" else 1)
    return choose_sample(inputs.labels, inputs.fragility, work / allowed, needed=inputs.needed)


def choose_sample(
    labels: Int[np.ndarray, " n"], fragility: Float[np.ndarray, " k"], work: float, *, needed: bool
) -> Sample | None:
    """Choose images spread evenly over each class, of the most fragile classes where all would be too many.

    Args:
        labels: of the audit split.
        fragility: the smaller, the sooner a class is examined; nan: last.
        work: multiply-adds of one forward pass of one image, as a share of those allowed.
        needed: a limit asks for the numbers, so cost is no reason to leave anything out.

    Returns:
        None where not even the fewest images of the fewest classes are affordable.
    """
    present = np.unique(labels)
    order = present[np.argsort(np.where(np.isnan(fragility), np.inf, fragility)[present], kind="stable")]
    affordable = int(1.0 / max(PASSES * work, 1e-12))  # images
    there = np.array([np.count_nonzero(labels == label) for label in order])
    sizes = range(MOST_PER_CLASS, LEAST_PER_CLASS - 1, -1)  # classes with fewer images leave room for the others
    per_class = next((size for size in sizes if np.minimum(there, size).sum() <= affordable), 0)
    n_classes = len(order)
    if not per_class:
        per_class = LEAST_PER_CLASS
        if not needed:
            n_classes = int((np.minimum(there, per_class).cumsum() <= affordable).sum())
    if n_classes < min(LEAST_CLASSES, len(order)):
        return None
    chosen = np.sort(order[:n_classes])
    rows = [spread_rows(np.flatnonzero(labels == label), per_class) for label in chosen]
    return Sample(np.concatenate(rows), per_class, len(order) - len(chosen))
