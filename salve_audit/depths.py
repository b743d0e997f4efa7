"""From the audit's stages to reliance at depth: what is examined, on which pictures, or why it is not."""

from __future__ import annotations

import dataclasses
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from salve_audit.activations import choose_device, choose_workers
from salve_audit.activations.pictures import LoaderSettings, load_pictures
from salve_audit.concept_pictures import ShownPictures, draw_concepts, draw_wholes
from salve_audit.config import AuditConfig, limits_of
from salve_audit.errors import LayerError, SalveError
from salve_audit.inputs.classifier import Classifier
from salve_audit.inputs.reasons import summarise_error
from salve_audit.reliance.depth import Evidence, SearchSettings, assess_depth, find_evidence, watch_network
from salve_audit.reliance.depth.nulls import flip_at_random
from salve_audit.reliance.depth.records import add_wholes, describe_classes, describe_concepts
from salve_audit.reliance.depth.sample import WORK, choose_sample
from salve_audit.reliance.depth.whole import flip_without_whole
from salve_audit.results import ClassReliance, Concept, Depth
from salve_audit.spatial import SpatialLayer, find_spatial_layers
from salve_audit.spatial.blocks import first_block
from salve_audit.spatial.work import count_work
from salve_audit.subject import Subject

log = logging.getLogger(__name__)
METHOD = (
    "In each picture the places that speak for its class are found by integrated gradients and filled in from their "
    "surroundings, the strongest first, until the class is lost; pieces of the same kind are one concept. Frame and "
    "overall colour of the pictures are taken out as wholes."
)
BATCH, BATCH_PIXELS = 100, 100 * 96 * 96
ON_GPU = 50  # times the work that is affordable on a processor
TRACED = 4  # pictures that layers are found on


@dataclass(frozen=True)
class DepthOutcome:
    """The classes with their findings, the concepts, and how it was done."""

    classes: tuple[ClassReliance, ...]
    concepts: tuple[Concept, ...]
    depth: Depth


@dataclass(frozen=True)
class Pictures:
    """Prepared pictures of the sample: rows of the audit split, (n, c, h, w), and labels (n,)."""

    rows: Int[np.ndarray, " n"]
    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]


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
    assert subject.classifier is not None, "there is no network"
    device = choose_device(config.device)
    audit, classifier = subject.activations.audit, subject.classifier.on(device)
    first = _load(config, subject, np.arange(min(TRACED, len(audit.labels))))
    layers = find_spatial_layers(classifier, first.images.to(device))
    layer = first_block(classifier.model, layers)
    allowed = WORK * (ON_GPU if device.type != "cpu" else 1)
    work = _count_work(classifier.model, first.images[:1].to(device)) / allowed
    sample = choose_sample(audit.labels, fragility, work, needed=limits_of(config).at_depth)
    if sample is None:
        return _absent(
            classes, "the network is too large for it on this device (a GPU, or a limit at depth, turns it on)"
        )
    pictures = _load(config, subject, sample.rows)
    log.info("pieces of evidence in %d pictures of %d classes", len(pictures.rows), len(np.unique(pictures.labels)))
    evidence, nulls, turned = _search(config, subject, classifier, layer, pictures)
    findings = assess_depth(evidence, _rng(config, "concepts"))
    concepts = describe_concepts(findings, layer.name, subject.classes)
    found = describe_classes(findings, nulls)
    found, concepts = add_wholes(found, concepts, turned, pictures.labels.numpy(), subject.classes)
    if config.images:
        shown = ShownPictures(pictures.images, [audit.paths[row] for row in pictures.rows], classifier.transform)
        concepts = draw_wholes(
            draw_concepts(concepts, findings, evidence, shown), turned, evidence, shown, subject.classes
        )
    depth = Depth(METHOD, (layer.name,), sample.n_per_class, evidence.n_passes, sample.n_classes_left_out)
    return DepthOutcome(tuple(dataclasses.replace(one, depth=found.get(one.index)) for one in classes), concepts, depth)


def _search(
    config: AuditConfig, subject: Subject, classifier: Classifier, layer: SpatialLayer, pictures: Pictures
) -> tuple[Evidence, dict[int, float], dict[str, Bool[np.ndarray, " n"]]]:
    """The pieces; per class the share that turns wrong without a random place; what turns wrong without a whole."""
    height, width = pictures.images.shape[2:]
    size = max(1, min(BATCH, BATCH_PIXELS // (height * width)))
    device = choose_device(config.device)
    try:
        with watch_network(classifier, layer, subject.activations.head) as probe:
            images, labels = pictures.images.to(device), pictures.labels.to(device)
            evidence = find_evidence(probe, images, labels, SearchSettings(batch_size=size))
            nulls = flip_at_random(probe, images, evidence, size, _rng(config, "random places"))
            turned = flip_without_whole(probe, images, evidence, size)
    except (RuntimeError, MemoryError) as error:  # a backward pass of the network's own code
        raise LayerError(str(classifier.path), f"the search failed ({summarise_error(error)})") from error
    return evidence, nulls, turned


def _load(config: AuditConfig, subject: Subject, rows: Int[np.ndarray, " n"]) -> Pictures:
    """The readable ones of these rows of the audit split, prepared."""
    assert subject.classifier is not None, "there is no network"
    assert subject.images is not None, "there are no pictures"
    audit = subject.activations.audit
    settings = LoaderSettings(BATCH, choose_workers(config.workers, choose_device(config.device)))
    paths = [audit.paths[row] for row in rows]
    loaded = load_pictures(subject.images.pictures, paths, subject.classifier.transform, settings)
    if not loaded.rows:
        raise LayerError(str(subject.images.root), "none of the pictures can be read again")
    if loaded.skipped:
        log.warning("%d pictures could not be read again and are left out at depth", len(loaded.skipped))
    kept = rows[loaded.rows]
    return Pictures(kept, loaded.images, torch.from_numpy(audit.labels[kept]))


def _count_work(model: nn.Module, image: Float[Tensor, "1 c h w"]) -> float:
    """Of one pass of one picture."""
    with torch.no_grad():
        return count_work(model.modules(), lambda: model(image))


def _rng(config: AuditConfig, purpose: str) -> np.random.Generator:
    return np.random.default_rng([config.seed, zlib.crc32(purpose.encode())])
