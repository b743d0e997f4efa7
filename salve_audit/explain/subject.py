"""The audit and its model found again: the same file, the same folded head."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from salve_audit.activations import choose_device
from salve_audit.activations.pictures import PictureDataset
from salve_audit.errors import CheckpointError, DataError, UsageError
from salve_audit.explain.request import ExplainRequest
from salve_audit.inputs import load_classifier
from salve_audit.inputs.arrays import is_array_file
from salve_audit.inputs.classifier import Classifier
from salve_audit.inputs.head import LinearHead
from salve_audit.inputs.heads.measure import measure_error
from salve_audit.inputs.heads.trace import trace
from salve_audit.inputs.label import cut_label
from salve_audit.inputs.sources.source import FolderSource
from salve_audit.saved_audit import (
    ModelOptions,
    SavedAudit,
    check_model,
    find_audited_label,
    load_saved_audit,
    recall_options,
)


@dataclass(frozen=True)
class Subject:
    """What explains.

    Attributes:
        audit: the saved audit.
        classifier: the model that was audited.
        network: a copy of its network on `device`.
        head: the folded head, as it was audited.
        device: where the network runs.
    """

    audit: SavedAudit
    classifier: Classifier
    network: nn.Module
    head: LinearHead
    device: torch.device

    def read_acts(self, images: Float[Tensor, "1 c h w"]) -> Float[np.ndarray, "1 d"]:
        """The head's inputs, after showing that they make the network's output.

        Raises:
            CheckpointError: the pass fails, or gives NaN.
            HeadError: the head is not what makes the logits.
        """
        reader, path = self.classifier.reader, str(self.classifier.path)
        seen = trace(self.network, reader.modules, images.to(self.device), path)
        on_cpu = {name: [one.cpu() for one in calls.inputs] for name, calls in seen.calls.items()}
        acts = reader.read(on_cpu, len(images), path).numpy()
        if not np.isfinite(acts).all():
            raise CheckpointError(path, "the network gives NaN or infinite activations for this picture")
        if self.device.type == "cpu":
            measure_error(reader, self.network, seen, path)
        return acts


def load_subject(request: ExplainRequest) -> Subject:
    """Audit, autoencoder and model.

    Raises:
        UsageError: MODEL is a file of arrays, or code has to be named again.
        ResultError: the audit is incomplete, of arrays, or of another model.
        CheckpointError: the model cannot be loaded.
    """
    if is_array_file(request.model):
        raise UsageError("MODEL", f"{request.model} holds arrays and no model", hint="name the checkpoint")
    device = choose_device(request.device)
    audit = load_saved_audit(request.audit)
    options = recall_options(ModelOptions(request.arch, request.head, request.weights), audit.result)
    classifier = load_classifier(
        request.model, options.arch, options.head, weights=options.weights, trust=request.trust_model
    )
    check_model(audit, request.model, classifier.sha256)
    head, label = classifier.reader.fold(classifier.model), find_audited_label(audit.result, classifier)
    head = head if label is None else cut_label(head, label)
    if (head.d, head.n_classes) != (audit.result.model.d, len(audit.result.data.classes)):
        why = f"has a head of {head.d} -> {head.n_classes}, the audit saw another one"
        raise CheckpointError(str(request.model), why, hint="name it with --head MODULE")
    return Subject(audit, classifier, classifier.on(device).model, head, device)


def read_image(path: Path, classifier: Classifier) -> Float[Tensor, "1 c h w"]:
    """The picture in the file, prepared as the audit prepares pictures.

    Raises:
        DataError: it cannot be read, or is no picture that the audit would take.
    """
    source = FolderSource(path.parent)
    sample = PictureDataset(source, (path.name,), classifier.transform)[0]
    if sample.image is None:
        raise DataError(str(path), sample.reason)
    return sample.image[None]
