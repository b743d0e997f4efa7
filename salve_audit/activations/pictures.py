"""Pictures in batches: decoded and transformed by DataLoader workers, unreadable ones named instead of raised."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from salve_audit.errors import DataError
from salve_audit.inputs.classifier import TransformSpec
from salve_audit.inputs.picture import load_picture
from salve_audit.inputs.transform import build_transform


class Sample(NamedTuple):
    """One picture, or why it could not be read."""

    position: int  # in the list of paths
    image: torch.Tensor | None  # (c, h, w)
    reason: str


class Batch(NamedTuple):
    """Consecutive pictures.

    Attributes:
        images: (b, c, h, w) of those that could be read, b may be 0.
        rows: their indices in the list of paths.
        skipped: (index, reason) of the others.
    """

    images: torch.Tensor
    rows: list[int]
    skipped: list[tuple[int, str]]


class PictureDataset(Dataset[Sample]):
    """The pictures at `paths` below `root`, prepared as `spec` says; picklable, so workers can be spawned."""

    def __init__(self, root: Path, paths: Sequence[str], spec: TransformSpec) -> None:
        self.root, self.paths = root, tuple(paths)
        self.n_channels = spec.input_size[0]
        self.transform = build_transform(spec)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        try:
            picture = load_picture(self.root / self.paths[index], self.n_channels)
        except DataError as error:
            return Sample(index, None, error.why)
        return Sample(index, self.transform(picture), "")


@dataclass(frozen=True)
class LoaderSettings:
    """How pictures are batched: pictures per batch, decoding processes, page-locked memory for a GPU."""

    batch_size: int
    workers: int
    pin_memory: bool = False


def build_loader(root: Path, paths: Sequence[str], spec: TransformSpec, settings: LoaderSettings) -> DataLoader[Batch]:
    """Batches of the pictures in the given order."""
    return DataLoader(
        PictureDataset(root, paths, spec),  # type: ignore[arg-type]  # the collation turns samples into batches
        batch_size=settings.batch_size,
        num_workers=settings.workers,
        collate_fn=collate,
        pin_memory=settings.pin_memory,
        worker_init_fn=_ignore_interrupt,
        multiprocessing_context=_start_method() if settings.workers else None,
    )


def collate(samples: list[Sample]) -> Batch:
    """Stacks what could be read."""
    images = [sample.image for sample in samples if sample.image is not None]
    return Batch(
        images=torch.stack(images) if images else torch.empty(0),
        rows=[sample.position for sample in samples if sample.image is not None],
        skipped=[(sample.position, sample.reason) for sample in samples if sample.image is None],
    )


def _ignore_interrupt(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal; the parent alone answers it and stops the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _start_method() -> str:
    """fork where Python does not warn of it: it starts in milliseconds, the others import torch anew."""
    methods = multiprocessing.get_all_start_methods()
    warns = sys.version_info >= (3, 12)
    if sys.platform == "linux" and not warns:
        return "fork"
    return "forkserver" if "forkserver" in methods else "spawn"
