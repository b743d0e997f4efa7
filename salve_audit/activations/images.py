"""Images in batches: decoded and transformed by DataLoader workers, unreadable ones named instead of raised."""

from __future__ import annotations

import math
import multiprocessing
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch.utils.data import DataLoader, Dataset

from salve_audit.errors import DataError
from salve_audit.inputs.data.decoding import decode_image, describe_image_error
from salve_audit.inputs.data.sources.source import ImageSource, count_readers
from salve_audit.inputs.model.transform import build_transform
from salve_audit.results.transform import UPRIGHT, TransformSpec

MAX_COPIED = 64 * 1024**2  # bytes that may be held once more by every decoding process


class PreparedImage(NamedTuple):
    """One prepared image, or the reason why it could not be read."""

    position: int  # in the list of paths
    image: torch.Tensor | None  # (c, h, w)
    reason: str


class Batch(NamedTuple):
    """Consecutive images of a list.

    Attributes:
        images: (b, c, h, w) of those that could be read, b may be 0.
        rows: their indices in the list of paths.
        skipped: (index, reason) of the others.
    """

    images: torch.Tensor
    rows: list[int]
    skipped: list[tuple[int, str]]


class ImageDataset(Dataset[PreparedImage]):
    """The images of `source` at `paths`, prepared as `spec` says; picklable, so workers can be spawned."""

    def __init__(self, source: ImageSource, paths: Sequence[str], spec: TransformSpec) -> None:
        self.source, self.paths = source, tuple(paths)
        self.n_channels = spec.input_size[0]
        self.shown_side = math.ceil(max(spec.input_size[1:]) / spec.crop_pct)
        self.is_upright = spec.orientation == UPRIGHT
        self.transform = None if spec.is_prepared else build_transform(spec)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> PreparedImage:
        key = self.paths[index]
        try:
            content = self.source.read(key)
            if self.transform is None:
                return PreparedImage(index, torch.from_numpy(np.asarray(content, np.float32)), "")
            image = decode_image(content, key, self.n_channels, self.shown_side, self.is_upright)
        except DataError as error:
            return PreparedImage(index, None, error.why)
        except OSError as error:
            return PreparedImage(index, None, describe_image_error(error))
        except ValueError as error:  # of the source; already in words
            return PreparedImage(index, None, str(error))
        return PreparedImage(index, self.transform(image), "")


@dataclass(frozen=True)
class LoaderSettings:
    """Settings of a loader: images per batch, decoding processes, page-locked memory for a GPU."""

    batch_size: int
    workers: int
    pin_memory: bool = False


def build_loader(
    source: ImageSource, paths: Sequence[str], spec: TransformSpec, settings: LoaderSettings
) -> DataLoader[Batch]:
    """Batches of the images in the given order.

    A source that holds its images in memory is read by forked processes or by this one alone: started any other
    way, every process would hold a copy.
    """
    workers = settings.workers
    if source.resident_bytes > MAX_COPIED and _start_method() != "fork":
        workers = 0
    return DataLoader(
        ImageDataset(source, paths, spec),  # type: ignore[arg-type]  # the collation turns samples into batches
        batch_size=settings.batch_size,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=settings.pin_memory,
        worker_init_fn=_ignore_interrupt,
        multiprocessing_context=_start_method() if workers else None,
    )


def read_batch(dataset: ImageDataset, positions: Sequence[int]) -> Batch:
    """Reads and prepares the images at these positions as one batch; in the caller's thread, but where readers pay."""
    n_readers = count_readers(dataset.source)
    if n_readers == 1:
        return collate([dataset[position] for position in positions])
    with ThreadPoolExecutor(n_readers) as pool:
        return collate(list(pool.map(dataset.__getitem__, positions)))


def load_batch(source: ImageSource, paths: Sequence[str], spec: TransformSpec, settings: LoaderSettings) -> Batch:
    """Loads a few images as one batch; those that could not be read are in `skipped`."""
    batches = list(build_loader(source, paths, spec, settings))
    images = [batch.images for batch in batches if batch.rows]
    return Batch(
        images=torch.cat(images) if images else torch.empty(0),
        rows=[row for batch in batches for row in batch.rows],
        skipped=[failure for batch in batches for failure in batch.skipped],
    )


def require_images(
    source: ImageSource, paths: Sequence[str], spec: TransformSpec, settings: LoaderSettings
) -> Float[torch.Tensor, "n c h w"]:
    """Loads images that were readable before.

    Raises:
        DataError: one of them cannot be read now; names it.
    """
    loaded = load_batch(source, paths, spec, settings)
    for index, reason in loaded.skipped:
        raise DataError(paths[index], f"could be read before, and not now ({reason})")
    return loaded.images


def first_images(
    source: ImageSource, paths: Sequence[str], spec: TransformSpec, n: int
) -> Float[torch.Tensor, "b c h w"]:
    """The first `n` images that can be read, or as many as there are; none: (0,)."""
    dataset, images = ImageDataset(source, paths, spec), []
    for index in range(len(dataset)):
        image = dataset[index].image
        images += [] if image is None else [image]
        if len(images) == n:
            break
    return torch.stack(images) if images else torch.empty(0)


def collate(samples: list[PreparedImage]) -> Batch:
    """Stacks the images that could be read."""
    images = [sample.image for sample in samples if sample.image is not None]
    return Batch(
        images=torch.stack(images) if images else torch.empty(0),
        rows=[sample.position for sample in samples if sample.image is not None],
        skipped=[(sample.position, sample.reason) for sample in samples if sample.image is None],
    )


def _ignore_interrupt(worker: int) -> None:
    """Ignores Ctrl-C, which reaches every process: the parent alone answers it and stops the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _start_method() -> str:
    """fork where Python does not warn of it: it starts in milliseconds, the others import torch anew."""
    methods = multiprocessing.get_all_start_methods()
    warns = sys.version_info >= (3, 12)
    if sys.platform == "linux" and not warns:
        return "fork"
    return "forkserver" if "forkserver" in methods else "spawn"
