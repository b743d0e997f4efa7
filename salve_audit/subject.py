"""What an audit is about, whatever it came from: activations with their head, class names, and the model in words.

A checkpoint with pictures needs one backbone pass; a file of arrays holds all that the later stages read.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from salve_audit.activations import ExtractSettings, choose_device, default_cache_dir, extract
from salve_audit.activations.store import Activations, ActivationSplit
from salve_audit.config import AuditConfig
from salve_audit.errors import DataError, UsageError
from salve_audit.inputs import load_classifier, load_images, match_classes, suspect_mapping
from salve_audit.inputs.arrays import ArraySet, ArraySplit, is_array_file, load_arrays
from salve_audit.inputs.classifier import Classifier
from salve_audit.inputs.enlarged import describe_enlarged
from salve_audit.inputs.identify import ALSO_FIT
from salve_audit.inputs.imageset import ImageSet
from salve_audit.inputs.label import cut_label, describe_label, find_label, name_sides, require_label
from salve_audit.results import ClassMapping, ClassPair, ModelInfo, TransformInfo
from salve_audit.sae.supervised_concepts import gather_concepts, select_columns
from salve_audit.stopwatch import Stopwatch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """What is audited.

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
        images: the pictures of both splits, unreadable ones included; None for arrays.
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


def load_subject(config: AuditConfig, watch: Stopwatch) -> Subject:
    """Activations, head and classes from a checkpoint and pictures, or from a file of arrays.

    Raises:
        UsageError: pictures are missing, or given beside arrays.
        SalveError: an input cannot be used.
    """
    path = Path(config.model)
    if is_array_file(path):
        return _from_arrays(path, config, watch)
    if config.data is None:
        hint = "salve-audit MODEL DATA; only a file of arrays (.npz, .safetensors with acts) is audited alone"
        raise UsageError("DATA", f"no labelled images are given for {path}", hint=hint)
    return _from_pictures(path, Path(config.data), config, watch)


def _from_pictures(path: Path, data: Path, config: AuditConfig, watch: Stopwatch) -> Subject:
    with watch.stage("inputs"):
        classifier = load_classifier(
            path, arch=config.arch, head=config.head, weights=config.weights, trust=config.trust_model
        )
        for note in classifier.notes:
            if note.startswith(ALSO_FIT):
                log.warning("%s: it is taken for %s; %s", path.name, classifier.architecture, note)
        images = load_images(data, seed=config.seed, limit=config.limit)
        images = match_classes(images, classifier.n_outputs, classifier.class_names, config.classes)
        _check_label(classifier, images.classes, config.label)
        attributes = _find_attributes(images, config)
    with watch.stage("activations"):
        activations = extract(classifier, images, _extract_settings(config))
    suspicion = (*_warn_enlarged(classifier, images), *_suspect(activations, images.classes))
    subject = Subject(
        activations=activations,
        classes=images.classes,
        model=_describe_model(classifier, activations),
        model_sha256=classifier.sha256,
        data_root=images.root.name,
        layout=images.layout,
        trusted_code=classifier.trusted_code,
        notes=(*classifier.notes, *suspicion),
        mapping=ClassMapping(images.mapping, tuple(ClassPair(name, output) for name, output in images.pairs)),
        attributes=attributes,
        classifier=classifier,
        images=images,
    )
    return subject if config.label is None else _narrow(subject, config.label)


def _check_label(classifier: Classifier, classes: tuple[str, ...], label: str | None) -> None:
    """Before the pass: is a label chosen where the outputs are labels, and is there one of that name?"""
    if label is not None and classifier.reader.count_outputs(classifier.model) == 1:
        raise UsageError("--label", "the network has one output, which decides between two classes")
    if label is not None:
        find_label(label, classes)
    elif classifier.reader.per_label:
        raise require_label(classifier.path.name, classes)


def _find_attributes(images: ImageSet, config: AuditConfig) -> Mapping[str, Mapping[str, str]]:
    """The columns that the autoencoder is to know; unusable ones are refused before the backbone pass."""
    if config.sae != "supervised":
        return {}
    columns = select_columns(str(images.root), images.attributes, config.concepts)
    fit = images.fit
    gather_concepts(str(images.root), fit.paths, np.asarray(fit.labels), images.classes, columns)
    return columns


def _narrow(subject: Subject, label: str) -> Subject:
    """The subject as the problem of two classes, label absent and present."""
    index, activations = find_label(label, subject.classes), subject.activations
    fit, audit = (_mark_present(part, index) for part in (activations.fit, activations.audit))
    for part, purpose in ((fit, "to fit"), (audit, "to audit")):
        if len(np.unique(part.labels)) < 2:
            why = f"every or no picture {purpose} has the label {label!r}, both are needed"
            raise DataError(subject.data_root, why)
    head = cut_label(activations.head, index)
    return dataclasses.replace(
        subject,
        activations=dataclasses.replace(activations, head=head, fit=fit, audit=audit),
        classes=name_sides(label),
        model=dataclasses.replace(subject.model, n_classes=head.n_classes),
        notes=(*subject.notes, describe_label(label, index, len(subject.classes))),
    )


def _mark_present(part: ActivationSplit, index: int) -> ActivationSplit:
    return dataclasses.replace(part, labels=(part.labels == index).astype(np.int64))


def _warn_enlarged(classifier: Classifier, images: ImageSet) -> tuple[str, ...]:
    """A warning, said and kept, where nobody said that the pictures are to be enlarged."""
    text = describe_enlarged(classifier, images)
    if text is not None:
        log.warning("%s", text)
    return () if text is None else (text,)


def _suspect(
    activations: Activations, classes: tuple[str, ...], remedy: str = "--classes FILE maps them by hand"
) -> tuple[str, ...]:
    """A warning, said and kept, where the classes are probably not the outputs they were matched with."""
    head, audit = activations.head, activations.audit
    logits = np.asarray(audit.acts) @ head.weight.T + head.bias
    text = suspect_mapping(logits, audit.labels, head.n_classes, classes, remedy)
    if text is not None:
        log.warning("%s", text)
    return () if text is None else (text,)


def _from_arrays(path: Path, config: AuditConfig, watch: Stopwatch) -> Subject:
    for option, value in (
        ("DATA", config.data),
        ("--arch", config.arch),
        ("--head", config.head),
        ("--classes", config.classes),
        ("--weights", config.weights),
        ("--concepts", config.concepts),
        ("--saliency-layer", config.saliency_layer),
        ("--depth-layers", config.depth_layers or None),
    ):
        if value is not None:
            raise UsageError(option, f"{path} holds activations, labels and head; nothing else is read")
    with watch.stage("inputs"):
        arrays = load_arrays(path, config.seed, config.limit, config.label)
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
    remedy = "bring labels and rows of the weight into one order, and check that the weight is (classes, activations)"
    return Subject(
        activations=activations,
        classes=arrays.classes,
        model=_describe_arrays(arrays),
        model_sha256=arrays.sha256,
        data_root=path.name,
        layout=arrays.layout,
        trusted_code=False,
        notes=(*arrays.notes, *_suspect(activations, arrays.classes, remedy)),
    )


def _as_activations(part: ArraySplit) -> ActivationSplit:
    return ActivationSplit(part.acts, part.labels, part.paths)


def _extract_settings(config: AuditConfig) -> ExtractSettings:
    cache = Path(config.cache) if config.cache is not None else default_cache_dir()
    return ExtractSettings(
        batch_size=config.batch_size,
        workers=config.workers,
        device=choose_device(config.device),
        precision=config.precision,
        cache_dir=cache if config.use_cache else None,
        progress=config.progress,
    )


def _describe_model(classifier: Classifier, activations: Activations) -> ModelInfo:
    head, spec = activations.head, classifier.transform
    return ModelInfo(
        name=classifier.path.name,
        architecture=classifier.architecture,
        format=classifier.format,
        head=head.module,
        head_error=activations.head_error,
        d=head.d,
        n_classes=head.n_classes,
        n_parameters=sum(p.numel() for p in classifier.model.parameters()),
        transform=TransformInfo(
            tuple(spec.input_size), tuple(spec.mean), tuple(spec.std), spec.interpolation, spec.crop_pct, spec.source
        ),
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
