"""From the audit's stages to reliance at depth: what is examined, on which pictures, or why it is not."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.activations import choose_device
from salve_audit.activations.pictures import first_pictures
from salve_audit.config import AuditConfig, limits_of
from salve_audit.depth.drawing import ShownPictures, draw_concepts, draw_wholes
from salve_audit.depth.inside import DepthRun, look_inside
from salve_audit.depth.layers import TRACED, choose_depth_layers
from salve_audit.depth.pictures import DepthPictures
from salve_audit.depth.projections import ConceptProjections
from salve_audit.depth.search import Controls, SearchSubject, search_depth
from salve_audit.errors import LayerError, SalveError
from salve_audit.reliance.depth import watch_network
from salve_audit.reliance.depth.evidence import find_heat
from salve_audit.reliance.depth.records import add_wholes, describe_classes, describe_concepts, set_nulls
from salve_audit.reliance.depth.sample import WORK, Sample, choose_sample
from salve_audit.results import ClassReliance, Concept, Depth
from salve_audit.spatial import SpatialLayer
from salve_audit.spatial.work import count_work
from salve_audit.subject import Subject

log = logging.getLogger(__name__)
METHOD = (
    "In each picture the places that speak for its class are found by integrated gradients and filled in from their "
    "surroundings, the strongest first, until the class is lost; pieces of the same kind are one concept. Whether a "
    "picture is lost without a piece is decided by the mean of three margins: without it, and without squares of two "
    "sizes around its middle. Frame and overall colour of the pictures are taken out as wholes."
)
ON_GPU = 50  # times the work that is affordable on a processor


@dataclass(frozen=True)
class DepthOutcome:
    """The classes with their findings, the concepts, how it was done, and the concepts as projections, if it was."""

    classes: tuple[ClassReliance, ...]
    concepts: tuple[Concept, ...]
    depth: Depth
    projections: ConceptProjections | None = None


def measure_depth(
    config: AuditConfig, subject: Subject, classes: Sequence[ClassReliance], fragility: Float[np.ndarray, " k"]
) -> DepthOutcome:
    """Reliance and redundancy at depth of every class that can be afforded, or a record that says why not.

    Args:
        config: of the audit.
        subject: network, pictures and activations.
        classes: with their thresholds.
        fragility: by output; the smaller, the sooner a class is examined, nan: last.
    """
    if config.depth == "off":
        return _absent(classes, "it was turned off (--depth off)")
    if subject.classifier is None or subject.images is None:
        return _absent(classes, "activations were audited, and there are no pictures of them")
    try:
        return _measure(config, subject, classes, fragility)
    except SalveError as error:
        return _absent(classes, f"{error.what}: {error.why}")
    except MemoryError:
        return _absent(classes, "its pictures do not fit into memory")


def _absent(classes: Sequence[ClassReliance], why: str) -> DepthOutcome:
    return DepthOutcome(tuple(classes), (), Depth(METHOD, why_absent=why))


def _measure(
    config: AuditConfig, subject: Subject, classes: Sequence[ClassReliance], fragility: Float[np.ndarray, " k"]
) -> DepthOutcome:
    asked, layers = _prepare(config, subject)
    sample = _choose(config, subject, asked, fragility)
    if sample is None:
        return _absent(
            classes, "the network is too large for it on this device (a GPU, or a limit at depth, turns it on)"
        )
    log.info("pieces of evidence in %d pictures, at most %d per class", len(sample.rows), sample.n_per_class)
    pictures = DepthPictures.of(config, subject, sample.rows)
    evidence, findings, controls = search_depth(asked, pictures)
    run = DepthRun(asked, layers, pictures, evidence, findings)
    inside = look_inside(run, describe_concepts(findings, asked.layer.name, subject.classes), subject.classes)
    found = describe_classes(findings, controls.nulls, controls.checks)
    found, concepts = add_wholes(found, inside.concepts, controls.turned, evidence.labels.numpy(), subject.classes)
    found = set_nulls(found, controls.whole_nulls)
    if config.images:
        concepts = _draw(concepts, run, controls, subject.classes)
    depth = Depth(
        METHOD,
        tuple(layer.name for layer in layers),
        sample.n_per_class,
        evidence.n_passes + controls.n_passes + inside.n_passes,
        sample.n_classes_left_out,
        n_pictures=len(evidence.labels),
        share_of_audit=len(evidence.labels) / len(subject.activations.audit.labels),
        not_removed=inside.absent,
    )
    measured = tuple(dataclasses.replace(one, depth=found.get(one.index)) for one in classes)
    return DepthOutcome(measured, concepts, depth, inside.projections)


def _draw(
    concepts: tuple[Concept, ...], run: DepthRun, controls: Controls, classes: Sequence[str]
) -> tuple[Concept, ...]:
    """The concepts with pictures."""
    asked, pictures = run.asked, run.pictures
    with watch_network(asked.classifier, asked.layer, asked.head) as probe:

        def heat(images: Float[Tensor, "m c h w"], labels: Int[Tensor, " m"]) -> Float[Tensor, "m 1 gh gw"]:
            return find_heat(probe, images.to(asked.device), labels.to(asked.device)).cpu()

        shown = ShownPictures(pictures.load, pictures.path, asked.classifier.transform, controls.usual, heat)
        concepts = draw_concepts(concepts, run.findings, run.evidence, shown)
        return draw_wholes(concepts, controls.turned, run.evidence, shown, classes)


def _prepare(config: AuditConfig, subject: Subject) -> tuple[SearchSubject, tuple[SpatialLayer, ...]]:
    """The network on its device, and the layers that concepts are looked at; pieces are told apart at the first."""
    assert subject.classifier is not None, "there is no network"
    device = choose_device(config.device)
    classifier = subject.classifier.on(device)
    layers = choose_depth_layers(classifier, _first(subject, TRACED).to(device), config.depth_layers)
    return SearchSubject(classifier, layers[0], subject.activations.head, device, config.seed), layers


def _choose(
    config: AuditConfig, subject: Subject, asked: SearchSubject, fragility: Float[np.ndarray, " k"]
) -> Sample | None:
    """By what one pass of one picture costs."""
    image, allowed = _first(subject, 1).to(asked.device), WORK * (ON_GPU if asked.device.type != "cpu" else 1)
    model = asked.classifier.model
    with torch.no_grad():
        work = count_work(model.modules(), lambda: model(image))
    labels = subject.activations.audit.labels
    return choose_sample(labels, fragility, work / allowed, needed=limits_of(config).at_depth)


def _first(subject: Subject, n: int) -> Float[Tensor, "n c h w"]:
    """The first audit pictures that can be read."""
    assert subject.classifier is not None, "there is no network"
    assert subject.images is not None, "there are no pictures"
    images = subject.images
    found = first_pictures(images.pictures, subject.activations.audit.paths, subject.classifier.transform, n)
    if not len(found):
        raise LayerError(str(images.root), "none of the pictures can be read again")
    return found
