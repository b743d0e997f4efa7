"""The backbone's forward pass over a list of images: the head's inputs, batch by batch."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch.utils.data import DataLoader

from salve_audit.activations.cache import EntryWriter
from salve_audit.activations.images import Batch, ImageDataset, LoaderSettings, build_loader, read_batch
from salve_audit.activations.shards import Progress
from salve_audit.activations.streams import computing, copy_for_streams, run_streams
from salve_audit.activations.unreadable import check_share_unreadable
from salve_audit.errors import CheckpointError, DataError
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.exact import exact_convolutions
from salve_audit.inputs.model.head.trace import watch_inputs
from salve_audit.inputs.model.head.verification import verify_head
from salve_audit.inputs.reasons import summarise_error
from salve_audit.machine import is_out_of_memory

VERIFIED_IMAGES = 32
Acts = Float[np.ndarray, "n d"]


class Engine(Protocol):
    """Runs batches of images through the network."""

    def __call__(
        self, classifier: Classifier, imageset: ImageSet, paths: Sequence[str], settings: PassSettings
    ) -> Generator[tuple[Batch, Acts], None, None]:
        """The batches of `paths` in order with their activations; of the first the images too: they verify the head."""


@dataclass(frozen=True)
class PassSettings:
    """Settings of a pass.

    Attributes:
        batch_size: images.
        workers: decoding processes.
        device: where the network runs.
        precision: fp32 or bf16.
        advance: is told (images done, of how many).
        n_streams: copies of the network that run at once.
        engine: who runs the batches; None: `run_here`.
    """

    batch_size: int
    workers: int
    device: torch.device
    precision: str
    advance: Callable[[int, int], None] | None = None
    n_streams: int = 1
    engine: Engine | None = None

    @property
    def least(self) -> bool:
        """No smaller pass is possible."""
        return self.batch_size == 1 and self.n_streams == 1

    def halve(self) -> PassSettings:
        """The settings of a pass that takes half of the memory, about: fewer streams first, as these have copies."""
        if self.n_streams > 1:
            return replace(self, n_streams=self.n_streams // 2)
        return replace(self, batch_size=max(1, self.batch_size // 2))


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
    with contextlib.closing((settings.engine or run_here)(classifier, imageset, paths[first:], settings)) as batches:
        for batch, acts in batches:
            rows, done = [first + row for row in batch.rows], writer.progress
            acts = acts if rows else np.zeros((0, done.d), np.float32)
            _check_finite(classifier, acts, [paths[row] for row in rows])
            if done.head_error is None and rows:
                done = replace(done, head_error=verify_head(classifier, batch.images[:VERIFIED_IMAGES])[1])
            skipped = tuple((paths[first + index], reason) for index, reason in batch.skipped)
            writer.append(acts, _advance(done, rows, skipped, acts.shape[1], len(imageset.fit.paths)))
            check_share_unreadable(imageset, writer.progress.skipped)
            if settings.advance is not None:
                settings.advance(writer.progress.n_seen, len(paths))


def run_here(
    classifier: Classifier, imageset: ImageSet, paths: Sequence[str], settings: PassSettings
) -> Generator[tuple[Batch, Acts], None, None]:
    """The batches of `paths` in order, each with its activations, by this process and its streams."""
    loading = LoaderSettings(settings.batch_size, settings.workers, pin_memory=settings.device.type == "cuda")
    with _computing(classifier, settings) as streams:
        yield from run_streams(streams, compute_batch, _load(imageset, paths, classifier, loading))


LoadedBatch = Callable[[], Batch]  # decodes where it is called, or holds what a process has decoded
Compute = Callable[[torch.Tensor], Acts]  # images (b, c, h, w) to the head's inputs (b, d)


def compute_batch(compute: Compute, load: LoadedBatch) -> tuple[Batch, Acts]:
    """A batch with its activations, none where no image can be read; images stay for the head's verification alone."""
    batch = load()
    return batch, compute(batch.images) if batch.rows else np.zeros((0, 0), np.float32)


def _load(
    imageset: ImageSet, paths: Sequence[str], classifier: Classifier, settings: LoaderSettings
) -> Iterator[LoadedBatch]:
    """The batches in order: without decoding processes each is decoded by the stream that computes it."""
    if settings.workers:
        loader = build_loader(imageset.reader, paths, classifier.transform, settings)
        yield from (functools.partial(_give, batch) for batch in _iterate(loader, imageset.root))
        return
    dataset = ImageDataset(imageset.reader, paths, classifier.transform)
    for start in range(0, len(paths), settings.batch_size):
        yield functools.partial(read_batch, dataset, range(start, min(start + settings.batch_size, len(paths))))


def _give(batch: Batch) -> Batch:
    return batch


def _iterate(loader: DataLoader[Batch], root: Path) -> Iterator[Batch]:
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
def _computing(classifier: Classifier, settings: PassSettings) -> Iterator[list[Compute]]:
    """A function for each stream, with a copy of the network of its own."""
    copies = copy_for_streams(classifier, settings.device, settings.n_streams)
    with exact_convolutions(), ExitStack() as stack:
        yield [stack.enter_context(watching_inputs(copy, settings)) for copy in copies]


@contextmanager
def watching_inputs(classifier: Classifier, settings: PassSettings) -> Iterator[Compute]:
    """A function from images to the head's inputs, by this network; its hooks are removed afterwards."""
    model, reader, path = classifier.model, classifier.reader, str(classifier.path)
    inputs: dict[str, list[torch.Tensor]] = {}
    hooks = [watch_inputs(model, name, inputs) for name in reader.modules]

    def compute(images: torch.Tensor) -> Acts:
        """The head's inputs, one row per image."""
        inputs.clear()
        on_device = images.to(settings.device, memory_format=torch.channels_last, non_blocking=True)
        try:
            with torch.inference_mode(), computing(settings.device, settings.precision):
                model(on_device)
        except Exception as error:  # the network's own code may raise anything
            shape = " x ".join(map(str, images.shape))
            why = f"a forward pass of {shape} failed ({summarise_error(error)})"
            raise CheckpointError(path, why, hint=_hint(error)) from error
        return reader.read(inputs, len(images), path).cpu().numpy()

    try:
        yield compute
    finally:
        for hook in hooks:
            hook.remove()


def _hint(error: Exception) -> str | None:
    return "even one image at a time is too much for the memory there is" if is_out_of_memory(error) else None


def _check_finite(classifier: Classifier, acts: Acts, paths: list[str]) -> None:
    bad = np.flatnonzero(~np.isfinite(acts).all(axis=1))
    if len(bad) and len(acts) == len(paths):
        kind = "NaN" if np.isnan(acts[bad[0]]).any() else "infinite"
        why = f"the network gives {kind} activations for {paths[bad[0]]}"
        raise CheckpointError(str(classifier.path), why, hint="are its weights or its mean and std damaged?")
