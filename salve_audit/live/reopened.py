"""A module in memory together with an audit of it: the parts that edits, heat maps and explanations start from."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from salve_audit.activations.store import ActivationSplit
from salve_audit.audit.kept_files import CONCEPTS, KeptFiles
from salve_audit.audit.saved import SavedAudit, find_audited_label, fold_audited_head, load_saved_audit
from salve_audit.errors import ResultError, UsageError
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.live.module import require_module
from salve_audit.live.network import LiveNetwork, open_network
from salve_audit.live.undisturbed import undisturbed
from salve_audit.live.words import library_words
from salve_audit.results import AuditResult, load_audit
from salve_audit.results.companions import SAE, FolderCompanions
from salve_audit.results.subject import LIVE
from salve_audit.results.view import companions_of
from salve_audit.sae.files import parse_sae
from salve_audit.spatial.layers import LayerMemo

TRIED = 2  # images of noise, where there are no others


@dataclass(frozen=True)
class Reopened:
    """A module and its audit.

    Attributes:
        module: as given, without wrappers.
        network: the copy that everything is computed with, and where the module is.
        audit: result, autoencoder and the folder of the other files.
        head: the folded head, as it was audited.
        label: the output that was audited alone, or None.
        layers: traced once.
    """

    module: nn.Module
    network: LiveNetwork
    audit: SavedAudit
    head: LinearHead
    label: int | None
    layers: LayerMemo = field(default_factory=LayerMemo)

    @property
    def classifier(self) -> Classifier:
        """The copy, on the CPU."""
        return self.network.classifier

    @property
    def splits(self) -> tuple[ActivationSplit, ActivationSplit] | None:
        """The activations of the audit, where it has just been made."""
        companions = companions_of(self.audit.result)
        if not isinstance(companions, KeptFiles):
            return None
        kept = companions.measured.activations
        return (kept.fit, kept.audit) if len(kept.fit.acts) and len(kept.audit.acts) else None


@contextmanager
def reopen(
    model: object, result: AuditResult | str | Path, images: Tensor | None = None, *, check: bool = True
) -> Iterator[Reopened]:
    """The module and its audit, with the process's random states and the module as they were before.

    Args:
        model: the module that was audited.
        result: the audit, in memory or saved.
        images: (n, c, h, w) prepared ones; None: noise, which shows the shapes.
        check: refuse a module with other weights than the audited one's, where the audit was one of a live module.

    Raises:
        UsageError: neither a module nor an audit.
        ResultError: the audit is of another model, of arrays, or lacks its autoencoder.
    """
    module, audited = require_module(model), require_result(result)
    spec = audited.model.transform
    if spec is None:
        raise ResultError(audited.model.name, "is an audit of arrays, in which there was no model")
    batch = torch.randn(TRIED, *spec.input_size, generator=torch.Generator().manual_seed(0))
    if images is not None:
        batch = check_images(images, spec.input_size)[:TRIED].detach().float().cpu()
    with library_words(), undisturbed(audited.seed), _find_files(audited) as saved:
        network = open_network(module, batch, spec, name=audited.model.name, likely=audited.model.head)
        if check:
            _check_weights(audited, network)
        label = find_audited_label(audited, network.classifier)
        folded = fold_audited_head(saved, network.classifier, label)
        index = network.device.index if network.device.type == "cuda" else None
        with torch.cuda.device(index) if index is not None else nullcontext():
            yield Reopened(module, network, saved, folded, label)


def require_result(result: object) -> AuditResult:
    """The result, read where it is a path.

    Raises:
        UsageError: it is neither.
        ResultError: it cannot be read.
    """
    if isinstance(result, AuditResult):
        return result
    if isinstance(result, (str, Path)):
        return load_audit(result)
    raise UsageError("result", f"expected a result or a path, got {type(result).__name__}")


def check_images(images: object, size: tuple[int, int, int] | None = None) -> Tensor:
    """Prepared images (n, c, h, w) as a tensor; one image (c, h, w) is a batch of one.

    Raises:
        UsageError: another type or shape.
    """
    if not isinstance(images, (Tensor, np.ndarray)):
        hint = "images (n, c, h, w) as the model takes them"
        raise UsageError("images", f"expected a tensor or an array, got {type(images).__name__}", hint=hint)
    tensor = images if isinstance(images, Tensor) else torch.from_numpy(np.asarray(images, np.float32))
    tensor = tensor[None] if tensor.ndim == 3 else tensor
    expected = "(n, c, h, w)" if size is None else f"(n, {', '.join(map(str, size))})"
    if tensor.ndim != 4 or not len(tensor) or (size is not None and tuple(tensor.shape[1:]) != tuple(size)):
        raise UsageError("images", f"expected {expected}, got {tuple(tensor.shape)}")
    return tensor


def _check_weights(result: AuditResult, network: LiveNetwork) -> None:
    if result.model.format == LIVE and result.provenance.model_sha256 != network.classifier.sha256:
        why = "is an audit of other weights than this module's"
        raise ResultError(result.model.name, why, hint="audit this module; check=False goes on nevertheless")


@contextmanager
def _find_files(result: AuditResult) -> Iterator[SavedAudit]:
    companions = companions_of(result)
    if isinstance(companions, FolderCompanions):
        saved = load_saved_audit(companions.audit)
        yield SavedAudit(saved.folder, result, saved.sae)
        return
    sae = parse_sae(result.read_file(SAE), SAE)
    with tempfile.TemporaryDirectory(prefix="salve-audit-") as folder:
        if isinstance(companions, KeptFiles) and companions.measured.concepts is not None:
            (Path(folder) / CONCEPTS).write_bytes(companions.measured.concepts)
        yield SavedAudit(Path(folder), result, sae)
