"""The audited model found again: the same file, the same pictures, the same folded head."""

from __future__ import annotations

from dataclasses import dataclass

from salve_audit.activations import ExtractSettings, choose_device, default_cache_dir, extract
from salve_audit.activations.store import Activations
from salve_audit.edit.evidence import Evidence, Splits, narrow, read_kept_activations
from salve_audit.edit.plan import EditRequest
from salve_audit.edit.tensors import check_form
from salve_audit.errors import CheckpointError, DataError
from salve_audit.inputs import load_classifier, load_images, match_classes
from salve_audit.inputs.classifier import Classifier
from salve_audit.inputs.imageset import ImageSet
from salve_audit.inputs.label import cut_label, find_label
from salve_audit.results import AuditResult
from salve_audit.saved_audit import ModelOptions, SavedAudit, find_audited_label, recall_options


@dataclass(frozen=True)
class Subject:
    """The audited model with what is known of it.

    Attributes:
        classifier: as audited.
        evidence: for the methods.
        images: the audit's pictures; None where they were not named.
        paths: of those to audit that can be read, in the order of the activations.
        label: the output that was audited alone, or None.
    """

    classifier: Classifier
    evidence: Evidence
    images: ImageSet | None
    paths: tuple[str, ...]
    label: int | None


def recall(request: EditRequest, result: AuditResult) -> EditRequest:
    """The request with what the audit was told of the model; raises as `recall_options`."""
    options = recall_options(ModelOptions(request.arch, request.head, request.weights), result)
    return request.with_defaults(options.arch, options.head, options.weights)


def load_subject(request: EditRequest, audit: SavedAudit) -> Subject:
    """The model and, where pictures are named, its activations: from the cache or by one pass.

    Raises:
        CheckpointError: the model cannot be loaded or edited.
        DataError: the pictures are not those of the audit.
    """
    classifier = load_classifier(
        request.model, arch=request.arch, head=request.head, weights=request.weights, trust=request.trust_model
    )
    check_form(classifier)
    images = _load_images(request, audit.result, classifier)
    activations = None if images is None else _extract(request, audit.result, classifier, images)
    label = _find_label(audit.result, classifier, images)
    head = classifier.reader.fold(classifier.model)
    head = head if label is None else cut_label(head, label)
    if (head.d, head.n_classes) != (audit.result.model.d, audit.result.model.n_classes):
        why = f"has a head of {head.d} -> {head.n_classes}, the audit saw another one; name it with --head"
        raise CheckpointError(str(request.model), why)
    splits = read_kept_activations(audit, head) if activations is None else _split(activations, label)
    paths = () if activations is None else activations.audit.paths
    return Subject(classifier, Evidence(audit, head, splits), images, paths, label)


def _load_images(request: EditRequest, result: AuditResult, classifier: Classifier) -> ImageSet | None:
    if request.data is None:
        return None
    limit = result.provenance.config.get("limit")
    images = load_images(request.data, seed=result.seed, limit=limit)
    images = match_classes(images, classifier.n_outputs, classifier.class_names, request.classes)
    found, known = (len(images.fit.paths), len(images.audit.paths)), result.data
    if sum(found) != known.n_fit + known.n_audit + known.n_skipped:
        why = f"has {sum(found):,} pictures, the audit ({known.root}) had {known.n_fit + known.n_audit:,}"
        raise _other_data(request, why)
    return images


def _extract(request: EditRequest, result: AuditResult, classifier: Classifier, images: ImageSet) -> Activations:
    settings = ExtractSettings(
        batch_size=request.batch_size,
        workers=request.workers,
        device=choose_device(request.device),
        precision="fp32",  # whatever the audit had: the written model is run in float32 as well
        cache_dir=(request.cache or default_cache_dir()) if request.use_cache else None,
        progress=request.progress,
    )
    activations = extract(classifier, images, settings)
    audited = result.provenance.data_sha256
    if activations.data_sha256 != audited:
        raise _other_data(request, f"is other data than the audit's: sha256 {activations.data_sha256}, not {audited}")
    return activations


def _other_data(request: EditRequest, why: str) -> DataError:
    hint = "the same pictures, labels and split are needed; with --classes FILE, if the audit had it"
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
