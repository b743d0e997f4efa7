"""A finished audit read back with its autoencoder, and its model loaded again with the settings of the audit."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

from salve_audit.errors import CheckpointError, ResultError, UsageError
from salve_audit.inputs.labels.label import cut_label, find_label
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.inputs.model.network import names_file
from salve_audit.results import AuditResult, load_audit
from salve_audit.sae.files import read_sae
from salve_audit.sae.models import TrainedSae


@dataclass(frozen=True)
class SavedAudit:
    """A result folder.

    Attributes:
        folder: where it lies.
        result: audit.json.
        sae: sae.safetensors.
    """

    folder: Path
    result: AuditResult
    sae: TrainedSae


@dataclass(frozen=True)
class ModelOptions:
    """The options that load the model, ``--arch``, ``--head`` and ``--weights``; None: as the file says."""

    arch: str | None = None
    head: str | None = None
    weights: str | None = None


def load_saved_audit(path: Path) -> SavedAudit:
    """The audit in `path`, a result folder or its audit.json.

    Raises:
        ResultError: something is missing, damaged, or of another audit.
    """
    result = load_audit(path)
    folder = path if path.is_dir() else path.parent
    if result.model.transform is None:
        why = "is an audit of arrays, in which there was no model"
        raise ResultError(str(path), why, hint="audit the checkpoint on its images")
    file = folder / "sae.safetensors"
    sae = read_sae(file)
    if hashlib.sha256(file.read_bytes()).hexdigest() != result.provenance.sae_sha256:
        raise ResultError(str(file), "is not the autoencoder of this audit (its hash is another)")
    if sae.d != result.model.d:
        raise ResultError(str(file), f"is for {sae.d} activations, the model has {result.model.d}")
    return SavedAudit(folder, result, sae)


def check_model(audit: SavedAudit, path: Path, sha256: str) -> None:
    """Checks that the model is the one that was audited.

    Raises:
        ResultError: it is another one; names both hashes.
    """
    audited = audit.result.provenance.model_sha256
    if sha256 != audited:
        why = f"is an audit of another model: {audit.result.model.name} with sha256 {audited}, {path} has {sha256}"
        raise ResultError(str(audit.folder), why, hint="audit this model, or name the one that was audited")


def recall_options(given: ModelOptions, result: AuditResult) -> ModelOptions:
    """`given`, completed by the settings of the audit; no code is run because a saved file names it.

    Raises:
        UsageError: the architecture was the user's own code, which has to be named again.
    """
    settings = result.provenance.config
    arch = settings.get("arch")
    if given.arch is None and names_file(arch):
        raise UsageError("--arch", f"the audit was given {arch}, which is code", hint="name it again, if it is to run")
    return ModelOptions(
        given.arch or arch, given.head or settings.get("head"), given.weights or settings.get("weights")
    )


def load_audited_classifier(audit: SavedAudit, path: Path, given: ModelOptions, trust: bool) -> Classifier:
    """The audited model from its file, loaded with the settings of the audit where `given` has none.

    Raises:
        UsageError: the user's code has to be named again.
        CheckpointError: the model cannot be loaded.
        ResultError: it is another model.
    """
    options = recall_options(given, audit.result)
    classifier = load_classifier(path, options.arch, options.head, weights=options.weights, trust=trust)
    check_model(audit, path, classifier.sha256)
    audited = audit.result.model.transform  # another release may read the file's settings in another way
    return classifier if audited is None else dataclasses.replace(classifier, transform=audited)


def fold_audited_head(audit: SavedAudit, classifier: Classifier, label: int | None) -> LinearHead:
    """The head as it was audited: of all outputs, or of the one `label` against its absence.

    Raises:
        CheckpointError: the audit saw a head of another size.
    """
    head = classifier.reader.fold(classifier.model)
    head = head if label is None else cut_label(head, label)
    audited = audit.result.model
    if (head.d, head.n_classes) != (audited.d, audited.n_classes):
        why = f"has a head of {head.d} -> {head.n_classes}, the audit saw another one"
        raise CheckpointError(str(classifier.path), why, hint="name it with --head MODULE")
    return head


def find_audited_label(result: AuditResult, classifier: Classifier) -> int | None:
    """The output of the label that was audited alone, by the audit's own mapping; None: all outputs were audited."""
    label = result.provenance.config.get("label")
    if label is None:
        return None
    pairs = () if result.data.mapping is None else result.data.mapping.pairs
    outputs = [pair.output for pair in pairs if pair.name == label]
    return outputs[0] if outputs else find_label(label, classifier.class_names or ())
