"""The subject of an audit, whatever it came from: activations with their head, class names, and the model in words.

A checkpoint with images needs one backbone pass; a file of arrays holds all that the later stages read.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from salve_audit.activations.remote_cache import RemoteCache
from salve_audit.activations.store import Activations, ActivationSplit
from salve_audit.audit.backbone_pass import compute_activations
from salve_audit.audit.disk_needs import AuditSize, check_disks
from salve_audit.audit.first_result import predict_classes, tell_first
from salve_audit.audit.progress import Reporter
from salve_audit.audit.progress import log as stage_log
from salve_audit.audit.recall import hash_listing
from salve_audit.config import AuditConfig
from salve_audit.errors import DataError, UsageError
from salve_audit.inputs.arrays.array_file import is_array_file
from salve_audit.inputs.arrays.arrayset import ArraySet, ArraySplit, load_arrays
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.inputs.data.sampling import describe_sample, note_sample, sample_images, sample_rows
from salve_audit.inputs.labels.label import (
    cut_label,
    describe_label,
    find_label,
    mark_present,
    name_sides,
    require_label,
)
from salve_audit.inputs.labels.matching import match_classes
from salve_audit.inputs.labels.suspect import suspect_mapping
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.decisions import list_decisions
from salve_audit.inputs.model.enlarged import describe_enlarged
from salve_audit.inputs.model.identify import ALSO_FIT
from salve_audit.results import ClassMapping, ClassPair, Decision, ModelInfo
from salve_audit.results.subject import LIVE
from salve_audit.sae.supervised_concepts import gather_concepts, select_columns
from salve_audit.sae.variant_names import SUPERVISED
from salve_audit.spatial.layers import LayerMemo

log = logging.getLogger(__name__)
PASS_STAGE = "activations"
BY_HAND, LIVE_REMEDY = "--classes FILE maps them by hand", "bring labels and classes into the order of the outputs"
INPUTS, PASS = "model and data, matched", "one pass of all images through the network"


@dataclass(frozen=True)
class Subject:
    """The audited model and data.

    Attributes:
        activations: both splits with the head.
        classes: names, in output order.
        model: the model in words and counts.
        model_sha256: of the model's file.
        data_root: name of the data's folder or file.
        layout: how the two splits came about, in words.
        trusted_code: code named by the user was run.
        notes: what the reader of a report should know.
        mapping: which class of the data is which output; None for arrays.
        attributes: columns of the data that a supervised autoencoder knows: column -> key -> text.
        classifier: the network, None for arrays.
        images: the images of both splits, unreadable ones included; None for arrays.
        layers: the trace of the classifier's spatial layers, shared by all stages that need them.
        decisions: readings of the model and the data that were chosen between.
        data_key: hash of the images as they were found, before they were matched with outputs; empty for arrays.
        distrust: those of the notes after which no number of the audit means anything.
        sampled_from: images that ``--sample`` drew from; None: all were audited.
    """

    activations: Activations
    classes: tuple[str, ...]
    model: ModelInfo
    model_sha256: str
    data_root: str
    layout: str
    trusted_code: bool
    notes: tuple[str, ...]
    mapping: ClassMapping | None = None
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    classifier: Classifier | None = None
    images: ImageSet | None = None
    layers: LayerMemo = field(default_factory=LayerMemo)
    decisions: tuple[Decision, ...] = ()
    data_key: str = ""
    distrust: tuple[str, ...] = ()
    sampled_from: int | None = None


@dataclass(frozen=True)
class Running:
    """The audit that a subject is computed for.

    Attributes:
        config: of the audit.
        reporter: is told of the pass.
        remote: the cache, where it lies under a URL.
    """

    config: AuditConfig
    reporter: Reporter
    remote: RemoteCache | None = None


def load_subject(config: AuditConfig, reporter: Reporter, remote: RemoteCache | None = None) -> Subject:
    """Activations, head and classes from a checkpoint and images, or from a file of arrays.

    Args:
        config, reporter, remote: as `Running` has them.

    Raises:
        UsageError: images are missing, or given beside arrays.
        SalveError: an input cannot be used.
    """
    path = Path(config.model)
    if is_array_file(path):
        return _from_arrays(path, config, reporter)
    if config.data is None:
        hint = "salve-audit MODEL DATA; only a file of arrays (.npz, .safetensors with acts) is audited alone"
        raise UsageError("DATA", f"no labelled images are given for {path}", hint=hint)
    return _from_images(path, config.data, Running(config, reporter, remote))


def _from_images(path: Path, data: str | Path, running: Running) -> Subject:
    config = running.config
    with running.reporter.stage("inputs", INPUTS):
        classifier = load_classifier(
            path, arch=config.arch, head=config.head, weights=config.weights, trust=config.trust_model
        )
        if config.orientation != "auto":
            classifier = classifier.with_orientation(config.orientation, "--orientation")
        for note in classifier.notes:
            if note.startswith(ALSO_FIT):
                log.warning("%s: it is taken for %s; %s", path.name, classifier.architecture, note)
        images = load_images(data, seed=config.seed, limit=config.limit, follow_links=config.follow_links)
        images, sampled = draw_images(images, config)
        classifier = dataclasses.replace(classifier, notes=(*classifier.notes, *sampled))
        listing = hash_listing(images)
        images = match_classes(
            images, classifier.n_outputs, classifier.class_names, config.classes, classifier.class_order
        )
    return compute_subject(classifier, images, running, listing)


def compute_subject(classifier: Classifier, images: ImageSet, running: Running, listing: str) -> Subject:
    """The subject of a network and images with one class name per output: one pass, or activations from the cache.

    Args:
        classifier: the network.
        images: matched with its outputs.
        running: the audit.
        listing: hash of the images before they were matched.

    Raises:
        SalveError: the images cannot be read, or the network cannot be run on them.
    """
    config, decisions = running.config, list_decisions(classifier, images)
    _say(decisions)
    _check_label(classifier, images.classes, config.label)
    attributes = _find_attributes(images, config)
    with running.reporter.stage(PASS_STAGE, PASS) as time:
        activations = compute_activations(classifier, images, config, running.reporter.advance, running.remote)
        time.from_cache = activations.from_cache
    tell_first(activations, images.classes, classifier.notes, images.mapping)
    suspicion = _suspect(
        activations,
        images.classes,
        LIVE_REMEDY if classifier.format == LIVE else BY_HAND,
        matched_by_name=images.matched_by_name,
    )
    subject = Subject(
        activations=activations,
        classes=images.classes,
        model=_describe_model(classifier, activations),
        model_sha256=classifier.sha256,
        data_root=images.root.name,
        layout=images.layout,
        trusted_code=classifier.trusted_code,
        notes=(
            *classifier.notes,
            *_say_precision(activations),
            *(str(decision) for decision in decisions if decision.conflict),
            *_warn_enlarged(classifier, images),
            *suspicion,
        ),
        distrust=suspicion,
        decisions=decisions,
        mapping=ClassMapping(images.mapping, tuple(ClassPair(name, output) for name, output in images.pairs)),
        attributes=attributes,
        classifier=classifier,
        images=images,
        data_key=f"{listing} {activations.contents_sha256}",
        sampled_from=images.sampled_from,
    )
    return subject if config.label is None else _narrow(subject, config.label)


def draw_images(images: ImageSet, config: AuditConfig) -> tuple[ImageSet, tuple[str, ...]]:
    """The images that --sample asks for, with a note where they are not all."""
    if config.sample is None:
        return images, ()
    drawn = sample_images(images, config.sample, config.seed)
    n, total = (len(each.fit.paths) + len(each.audit.paths) for each in (drawn, images))
    return drawn, (note_sample(n, total),) if n < total else ()


def _say(decisions: Sequence[Decision]) -> None:
    """A line for each decision; those that something contradicts are warnings, which --quiet does not silence."""
    for decision in decisions:
        if decision.conflict:
            log.warning("%s", decision)
        else:
            stage_log.info("  %s", decision)


def _check_label(classifier: Classifier, classes: tuple[str, ...], label: str | None) -> None:
    """Checks before the pass that a label is named where the outputs are labels, and that it exists."""
    if label is not None and classifier.reader.count_outputs(classifier.model) == 1:
        raise UsageError("--label", "the network has one output, which decides between two classes")
    if label is not None:
        find_label(label, classes)
    elif classifier.reader.per_label:
        raise require_label(classifier.path.name, classes)


def _find_attributes(images: ImageSet, config: AuditConfig) -> Mapping[str, Mapping[str, str]]:
    """The columns that the autoencoder is to know; unusable ones are refused before the backbone pass."""
    if config.sae != SUPERVISED:
        return {}
    columns = select_columns(str(images.root), images.attributes, config.attributes)
    fit = images.fit
    gather_concepts(str(images.root), fit.paths, np.asarray(fit.labels), images.classes, columns)
    return columns


def _narrow(subject: Subject, label: str) -> Subject:
    """The subject as the problem of two classes, label absent and present."""
    index, activations = find_label(label, subject.classes), subject.activations
    fit, audit = (
        dataclasses.replace(part, labels=mark_present(part.labels, index))
        for part in (activations.fit, activations.audit)
    )
    for part, purpose in ((fit, "to fit"), (audit, "to audit")):
        if len(np.unique(part.labels)) < 2:
            why = f"every or no image {purpose} has the label {label!r}, both are needed"
            raise DataError(subject.data_root, why)
    head = cut_label(activations.head, index)
    return dataclasses.replace(
        subject,
        activations=dataclasses.replace(activations, head=head, fit=fit, audit=audit),
        classes=name_sides(label),
        model=dataclasses.replace(subject.model, n_classes=head.n_classes),
        notes=(*subject.notes, describe_label(label, index, len(subject.classes))),
    )


def _warn_enlarged(classifier: Classifier, images: ImageSet) -> tuple[str, ...]:
    """A warning, said and kept, where nobody said that the images are to be enlarged."""
    text = describe_enlarged(classifier, images)
    if text is not None:
        log.warning("%s", text)
    return () if text is None else (text,)


def _say_precision(activations: Activations) -> tuple[str, ...]:
    """What the precision of the pass is worth, where it was compared with float32."""
    text = None if activations.precision is None else activations.precision.describe()
    return () if text is None else (text,)


def _suspect(
    activations: Activations,
    classes: tuple[str, ...],
    remedy: str,
    matched_by_name: bool = False,
) -> tuple[str, ...]:
    """A warning, said and kept, where the classes are probably not the outputs they were matched with."""
    head, audit = activations.head, activations.audit
    text = suspect_mapping(predict_classes(audit, head), audit.labels, head.n_classes, classes, remedy, matched_by_name)
    if text is not None:
        log.warning("%s", text)
    return () if text is None else (text,)


def _from_arrays(path: Path, config: AuditConfig, reporter: Reporter) -> Subject:
    for option, value in (
        ("DATA", config.data),
        ("--arch", config.arch),
        ("--head", config.head),
        ("--classes", config.classes),
        ("--weights", config.weights),
        ("--attributes", config.attributes),
        ("--saliency-layer", config.saliency_layer),
        ("--evidence-layer", config.evidence_layer),
    ):
        if value is not None:
            raise UsageError(option, f"{path} holds activations, labels and head; nothing else is read")
    with reporter.stage("inputs", INPUTS):
        found = load_arrays(path, config.seed, config.limit, config.label)
        arrays = _sample_arrays(found, config)
        check_disks(config, AuditSize(len(arrays.fit.labels), len(arrays.audit.labels), arrays.head.d, has_pass=False))
    activations = Activations(
        fit=_as_activations(arrays.fit),
        audit=_as_activations(arrays.audit),
        head=arrays.head,
        head_error=None,
        key=arrays.data_sha256,
        data_sha256=arrays.data_sha256,
        from_cache=False,
        skipped=(),
    )
    tell_first(activations, arrays.classes, arrays.notes)
    remedy = "bring labels and rows of the weight into one order, and check that the weight is (classes, activations)"
    suspicion = _suspect(activations, arrays.classes, remedy)
    return Subject(
        activations=activations,
        classes=arrays.classes,
        model=_describe_arrays(arrays),
        model_sha256=arrays.sha256,
        data_root=path.name,
        layout=arrays.layout,
        trusted_code=False,
        notes=(*arrays.notes, *suspicion),
        distrust=suspicion,
        sampled_from=None if arrays is found else len(found.fit.labels) + len(found.audit.labels),
    )


def _sample_arrays(arrays: ArraySet, config: AuditConfig) -> ArraySet:
    parts = (arrays.fit, arrays.audit)
    total = sum(len(part.labels) for part in parts)
    if config.sample is None or config.sample >= total:
        return arrays
    rows = sample_rows([part.labels for part in parts], config.sample, config.seed)
    fit, audit = (
        ArraySplit(part.acts[own], part.labels[own], tuple(part.paths[row] for row in own))
        for part, own in zip(parts, rows, strict=True)
    )
    n = sum(map(len, rows))
    return dataclasses.replace(
        arrays,
        fit=fit,
        audit=audit,
        layout=f"{arrays.layout}, {describe_sample(n, total)}",
        notes=(*arrays.notes, note_sample(n, total)),
    )


def _as_activations(part: ArraySplit) -> ActivationSplit:
    return ActivationSplit(part.acts, part.labels, part.paths)


def _describe_model(classifier: Classifier, activations: Activations) -> ModelInfo:
    head = activations.head
    return ModelInfo(
        name=classifier.path.name,
        architecture=classifier.architecture,
        format=classifier.format,
        head=head.module,
        head_error=activations.head_error,
        d=head.d,
        n_classes=head.n_classes,
        n_parameters=sum(p.numel() for p in classifier.model.parameters()),
        transform=classifier.transform,
    )


def _describe_arrays(arrays: ArraySet) -> ModelInfo:
    head = arrays.head
    return ModelInfo(
        name=arrays.path.name,
        architecture="none (arrays)",
        format=arrays.format,
        head=head.module,
        head_error=None,
        d=head.d,
        n_classes=head.n_classes,
        n_parameters=head.weight.size + head.bias.size,
        transform=None,
    )
