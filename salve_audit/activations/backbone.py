"""The backbone's forward pass over a list of images: the head's inputs, batch by batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch.utils.data import DataLoader

from salve_audit.activations.cache import EntryWriter, Progress
from salve_audit.activations.images import Batch, LoaderSettings, build_loader
from salve_audit.activations.unreadable import check_share_unreadable
from salve_audit.errors import CheckpointError, DataError
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.exact import exact_convolutions
from salve_audit.inputs.model.head.trace import watch_inputs
from salve_audit.inputs.model.head.verification import verify_head
from salve_audit.inputs.reasons import summarise_error

VERIFIED_IMAGES = 32
Acts = Float[np.ndarray, "n d"]


@dataclass(frozen=True)
class PassSettings:
    """Settings of a pass: images per batch, decoding processes, device, fp32 or bf16, and who is told how far it is."""

    batch_size: int
    workers: int
    device: torch.device
    precision: str
    advance: Callable[[int, int], None] | None = None  # (images done, of how many)


def run_pass(classifier: Classifier, imageset: ImageSet, settings: PassSettings, writer: EntryWriter) -> None:
    """Appends the activations of all images that `writer` has not seen yet; the classifier is left untouched.

    Raises:
        HeadError: the head is not what makes the logits.
        CheckpointError: the forward pass fails or gives NaN or infinite activations.
        DataError: over 5 % of a split's images cannot be read.
        OutputError: the disk is full.
    """
    paths = imageset.fit.paths + imageset.audit.paths
    first = writer.progress.n_seen
    loading = LoaderSettings(settings.batch_size, settings.workers, pin_memory=settings.device.type == "cuda")
    loader = build_loader(imageset.reader, paths[first:], classifier.transform, loading)
    with _computing(classifier, settings) as compute:
        for batch in _load(loader, imageset.root):
            rows = [first + row for row in batch.rows]
            done = writer.progress
            acts = compute(batch.images) if rows else np.zeros((0, done.d), np.float32)
            _check_finite(classifier, acts, [paths[row] for row in rows])
            if done.head_error is None and rows:
                done = replace(done, head_error=verify_head(classifier, batch.images[:VERIFIED_IMAGES])[1])
            skipped = tuple((paths[first + index], reason) for index, reason in batch.skipped)
            writer.append(acts, _advance(done, rows, skipped, acts.shape[1], len(imageset.fit.paths)))
            check_share_unreadable(imageset, writer.progress.skipped)
            if settings.advance is not None:
                settings.advance(writer.progress.n_seen, len(paths))


def _load(loader: DataLoader[Batch], root: Path) -> Iterator[Batch]:
    """The loader's batches; a decoding process that dies (killed, no shared memory) becomes an error for the user."""
    batches = iter(loader)
    while True:
        try:
            batch = next(batches, None)
        except (RuntimeError, OSError) as error:
            why = f"a process that decodes images failed ({summarise_error(error)})"
            raise DataError(str(root), why, hint="try --workers 0") from error
        if batch is None:
            return
        yield batch


def _advance(done: Progress, rows: list[int], skipped: tuple[tuple[str, str], ...], d: int, n_fit: int) -> Progress:
    """The progress with a batch counted; the first `n_fit` images of the list are the fit split."""
    to_fit = sum(row < n_fit for row in rows)
    return replace(
        done,
        n_seen=done.n_seen + len(rows) + len(skipped),
        n_fit=done.n_fit + to_fit,
        n_audit=done.n_audit + len(rows) - to_fit,
        d=d,
        skipped=done.skipped + skipped,
    )


@contextmanager
def _computing(classifier: Classifier, settings: PassSettings) -> Iterator[Callable[[torch.Tensor], Acts]]:
    """A function from images (b, c, h, w) to the head's inputs (b, d), on a copy of the network."""
    model = copy.deepcopy(classifier.model).to(settings.device)
    model = model.to(memory_format=torch.channels_last)  # 4-D weights only; the faster layout for convolutions
    reader, path = classifier.reader, str(classifier.path)
    inputs: dict[str, list[torch.Tensor]] = {}
    hooks = [watch_inputs(model, name, inputs) for name in reader.modules]
    in_bf16 = settings.precision == "bf16"

    def compute(images: torch.Tensor) -> Acts:
        """The head's inputs, one row per image."""
        inputs.clear()
        on_device = images.to(settings.device, memory_format=torch.channels_last, non_blocking=True)
        try:
            with torch.inference_mode(), torch.autocast(settings.device.type, torch.bfloat16, enabled=in_bf16):
                model(on_device)
        except Exception as error:  # the network's own code may raise anything
            shape = " x ".join(map(str, images.shape))
            why = f"a forward pass of {shape} failed ({summarise_error(error)})"
            raise CheckpointError(path, why, hint=_hint(error)) from error
        return reader.read(inputs, len(images), path).cpu().numpy()

    try:
        with exact_convolutions():
            yield compute
    finally:
        for hook in hooks:
            hook.remove()


def _hint(error: Exception) -> str | None:
    return "try a smaller --batch-size" if isinstance(error, (MemoryError, torch.OutOfMemoryError)) else None


def _check_finite(classifier: Classifier, acts: Acts, paths: list[str]) -> None:
    bad = np.flatnonzero(~np.isfinite(acts).all(axis=1))
    if len(bad) and len(acts) == len(paths):
        kind = "NaN" if np.isnan(acts[bad[0]]).any() else "infinite"
        why = f"the network gives {kind} activations for {paths[bad[0]]}"
        raise CheckpointError(str(classifier.path), why, hint="are its weights or its mean and std damaged?")
