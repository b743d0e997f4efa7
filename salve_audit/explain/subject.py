"""The audit and its model found again: the same file, the same folded head."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from salve_audit.activations.device import choose_device
from salve_audit.activations.images import ImageDataset
from salve_audit.audit.saved import (
    ModelOptions,
    SavedAudit,
    find_audited_label,
    fold_audited_head,
    load_audited_classifier,
    load_saved_audit,
)
from salve_audit.errors import CheckpointError, DataError, UsageError
from salve_audit.explain.request import ExplainRequest
from salve_audit.inputs.arrays.array_file import is_array_file
from salve_audit.inputs.data.sources.source import FolderSource
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.inputs.model.head.trace import trace
from salve_audit.inputs.model.head.verification import measure_error
from salve_audit.spatial.layers import LayerMemo


@dataclass(frozen=True)
class ExplainSubject:
    """The audit, model and head that explanations are computed with.

    Attributes:
        audit: the saved audit.
        classifier: the model that was audited.
        network: a copy of its network on `device`.
        head: the folded head, as it was audited.
        device: where the network runs.
        layers: the spatial layers of the network, traced once for all images.
    """

    audit: SavedAudit
    classifier: Classifier
    network: nn.Module
    head: LinearHead
    device: torch.device
    layers: LayerMemo = field(default_factory=LayerMemo)

    def read_acts(self, images: Float[Tensor, "1 c h w"]) -> Float[np.ndarray, "1 d"]:
        """The head's inputs, after showing that they make the network's output.

        Raises:
            CheckpointError: the pass fails, or gives NaN.
            HeadError: the head is not what makes the logits.
        """
        reader, path = self.classifier.reader, str(self.classifier.path)
        traced = trace(self.network, reader.modules, images.to(self.device), path)
        on_cpu = {name: [tensor.cpu() for tensor in calls.inputs] for name, calls in traced.calls.items()}
        acts = reader.read(on_cpu, len(images), path).numpy()
        if not np.isfinite(acts).all():
            raise CheckpointError(path, "the network gives NaN or infinite activations for this image")
        if self.device.type == "cpu":
            measure_error(reader, self.network, traced, path)
        return acts


def load_explain_subject(request: ExplainRequest) -> ExplainSubject:
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
    options = ModelOptions(request.arch, request.head, request.weights)
    classifier = load_audited_classifier(audit, request.model, options, request.trust_model)
    head = fold_audited_head(audit, classifier, find_audited_label(audit.result, classifier))
    return ExplainSubject(audit, classifier, classifier.on(device).model, head, device)


def read_image(path: Path, classifier: Classifier) -> Float[Tensor, "1 c h w"]:
    """The image in the file, prepared as the audit prepares images.

    Raises:
        DataError: it cannot be read, or is no image that the audit would take.
    """
    source = FolderSource(path.parent)
    sample = ImageDataset(source, (path.name,), classifier.transform)[0]
    if sample.image is None:
        raise DataError(str(path), sample.reason)
    return sample.image[None]
