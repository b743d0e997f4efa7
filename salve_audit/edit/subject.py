"""The audited model found again: the same file, the same images, the same folded head."""

from __future__ import annotations

from dataclasses import dataclass, field

from salve_audit.activations.device import choose_device
from salve_audit.activations.extraction import ExtractSettings
from salve_audit.activations.store import Activations
from salve_audit.audit.backbone_pass import extract_anyway
from salve_audit.audit.cache_folder import find_cache_dir
from salve_audit.audit.progress import Advance
from salve_audit.audit.saved import (
    ModelOptions,
    SavedAudit,
    find_audited_label,
    fold_audited_head,
    load_audited_classifier,
    recall_options,
)
from salve_audit.edit.evidence import EditEvidence, Splits, narrow, read_kept_activations
from salve_audit.edit.plan import EditRequest
from salve_audit.edit.tensors import check_form
from salve_audit.errors import DataError
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.inputs.data.sampling import sample_images
from salve_audit.inputs.labels.label import find_label
from salve_audit.inputs.labels.matching import match_classes
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.results import AuditResult
from salve_audit.spatial.layers import LayerMemo


@dataclass(frozen=True)
class EditSubject:
    """The audited model with what is known of it.

    Attributes:
        classifier: as audited.
        evidence: for the methods.
        images: the audit's images; None where they were not named.
        paths: of those to audit that can be read, in the order of the activations.
        label: the output that was audited alone, or None.
        layers: the spatial layers of the network, traced once.
    """

    classifier: Classifier
    evidence: EditEvidence
    images: ImageSet | None
    paths: tuple[str, ...]
    label: int | None
    layers: LayerMemo = field(default_factory=LayerMemo)


def recall(request: EditRequest, result: AuditResult) -> EditRequest:
    """The request completed by the settings with which the audit loaded the model; raises as `recall_options`."""
    options = recall_options(ModelOptions(request.arch, request.head, request.weights), result)
    return request.with_defaults(options.arch, options.head, options.weights)


def load_edit_subject(request: EditRequest, audit: SavedAudit, advance: Advance | None = None) -> EditSubject:
    """The model and, where images are named, its activations: from the cache or by one pass, `advance` told of it.

    Raises:
        CheckpointError: the model cannot be loaded or edited.
        DataError: the images are not those of the audit.
    """
    options = ModelOptions(request.arch, request.head, request.weights)
    classifier = load_audited_classifier(audit, request.model, options, request.trust_model)
    check_form(classifier)
    images = _load_images(request, audit.result, classifier)
    activations = None if images is None else _extract(request, audit.result, (classifier, images), advance)
    label = _find_label(audit.result, classifier, images)
    head = fold_audited_head(audit, classifier, label)
    splits = read_kept_activations(audit, head) if activations is None else _split(activations, label)
    paths = () if activations is None else activations.audit.paths
    return EditSubject(classifier, EditEvidence(audit, head, splits), images, paths, label)


def _load_images(request: EditRequest, result: AuditResult, classifier: Classifier) -> ImageSet | None:
    if request.data is None:
        return None
    settings = result.provenance.config
    follow_links = bool(settings.get("follow_links", False))
    images = load_images(request.data, seed=result.seed, limit=settings.get("limit"), follow_links=follow_links)
    if settings.get("sample") is not None:
        images = sample_images(images, settings["sample"], result.seed)
    images = match_classes(
        images, classifier.n_outputs, classifier.class_names, request.classes, classifier.class_order
    )
    numbers, known = (len(images.fit.paths), len(images.audit.paths)), result.data
    if sum(numbers) != known.n_images:
        why = f"has {sum(numbers):,} images, the audit ({known.root}) had {known.n_fit + known.n_audit:,}"
        raise _other_data(request, why)
    return images


def _extract(
    request: EditRequest, result: AuditResult, audited: tuple[Classifier, ImageSet], advance: Advance | None
) -> Activations:
    settings = ExtractSettings(
        batch_size=request.batch_size,
        workers=request.workers,
        device=choose_device(request.device),
        precision="fp32",  # whatever the audit had: the written model is run in float32 as well
        cache_dir=find_cache_dir(request.cache) if request.use_cache else None,
        advance=advance,
    )
    activations = extract_anyway(*audited, settings)
    expected = result.provenance.data_sha256
    if activations.data_sha256 != expected:
        raise _other_data(request, f"is other data than the audit's: sha256 {activations.data_sha256}, not {expected}")
    return activations


def _other_data(request: EditRequest, why: str) -> DataError:
    hint = "the same images, labels and split are needed; with --classes FILE, if the audit had it"
    return DataError(str(request.data), why, hint=hint)


def _find_label(result: AuditResult, classifier: Classifier, images: ImageSet | None) -> int | None:
    """The output of the label that was audited alone."""
    label = result.provenance.config.get("label")
    if label is None or images is None:
        return find_audited_label(result, classifier)
    return find_label(label, images.classes)


def _split(activations: Activations, label: int | None) -> Splits:
    fit, audit = activations.fit, activations.audit
    return (fit, audit) if label is None else (narrow(fit, label), narrow(audit, label))
