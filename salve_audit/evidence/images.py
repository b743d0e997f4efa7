"""The images that image reliance is measured on, as many at a time as memory is granted for."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.activations.images import LoaderSettings, load_batch, require_images
from salve_audit.activations.spread import spread_rows
from salve_audit.errors import LayerError
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.results import TransformSpec

log = logging.getLogger(__name__)
HELD = 128 * 1024**2  # bytes of prepared images at a time; while they are put together there are twice as many
BATCH = 100
ROUNDS = 3  # over all images: the search, its judgement, the controls
BATCH_BYTES = HELD // 16  # each decoding process works ahead by two batches
FEW = 16  # images that are read faster than decoding processes start


@dataclass(eq=False)
class EvidenceImages:
    """Images of the audit split, addressed by their position (0 to n - 1) among these.

    Where all of them fit into `held_bytes` they are read once and stay, else every part is read when it is needed.

    Attributes:
        images: the image set that `paths` belong to.
        paths: of the audit split.
        audit_labels: (a,) class indices of the audit split.
        spec: how images are prepared.
        rows: (n,) of the audit split.
        workers: decoding processes.
        later: further rows, round by round, of which classes that are undecided are given more.
        held_bytes: of prepared images at a time, at most.
        advance: is told how many images of how many were looked at, in all rounds over them.
    """

    images: ImageSet
    paths: Sequence[str]
    audit_labels: Int[np.ndarray, " a"]
    spec: TransformSpec
    rows: Int[np.ndarray, " n"]
    workers: int
    held_bytes: int = HELD
    advance: Callable[[int, int], None] | None = None
    later: Sequence[Int[np.ndarray, " l"]] = ()
    _seen: int = 0
    _all: Tensor | None = field(default=None, repr=False)
    _readable: list[Int[np.ndarray, " r"]] = field(default_factory=list, repr=False)
    _n_taken: int = field(default=0, repr=False)  # of `rows` by `read_first`, readable or not

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """Class index of each image."""
        return torch.from_numpy(self.audit_labels[self.rows])

    @property
    def most(self) -> int:
        """Number of images that may be held at a time."""
        return max(1, self.held_bytes // (4 * math.prod(self.spec.input_size)))

    def path(self, position: int) -> str:
        """Path of the image at a position."""
        return self.paths[self.rows[position]]

    def load(self, positions: Int[np.ndarray, " m"]) -> Float[Tensor, "m c h w"]:
        """Load the prepared images at these positions, on the processor.

        Raises:
            DataError: one of them could be read before, and not now; names it.
        """
        if self._all is not None:
            return self._all[torch.from_numpy(positions)]
        paths = [self.path(position) for position in positions.tolist()]
        return require_images(self.images.reader, paths, self.spec, self._settings(len(paths)))

    def peek(self, n: int) -> tuple[Int[Tensor, " m"], Float[Tensor, "m c h w"]]:
        """Class indices and prepared images of `n` spread over all, at most, before it is known which can be read."""
        rows = spread_rows(self.rows, min(n, self.most))
        paths = [self.paths[row] for row in rows]
        loaded = load_batch(self.images.reader, paths, self.spec, self._settings(len(paths)))
        return torch.from_numpy(self.audit_labels[rows[loaded.rows]]), loaded.images

    def parts(self) -> Iterator[tuple[slice, Float[Tensor, "m c h w"]]]:
        """Yield all images in parts that may be held: their positions and the prepared images."""
        if self._all is not None:
            yield slice(0, len(self)), self._all
            self._tell(len(self))
            return
        for start in range(0, len(self), self.most):
            positions = np.arange(start, min(len(self), start + self.most))
            yield slice(start, start + len(positions)), self.load(positions)
            self._tell(len(positions))

    def spread(self) -> Float[Tensor, "m c h w"]:
        """Load as many images as may be held, spread evenly over all."""
        return self.load(spread_rows(np.arange(len(self)), self.most)) if self._all is None else self._all

    def read_first(self) -> Iterator[tuple[Int[Tensor, " m"], Float[Tensor, "m c h w"]]]:
        """Yield class indices and prepared images part by part, before it is known which can be read again.

        Images that cannot be read are left out, here and from then on.

        Raises:
            LayerError: none can be read.
        """
        self._readable.clear()
        self._n_taken = 0
        for start in range(0, len(self), self.most):
            rows = self.rows[start : start + self.most]
            paths = [self.paths[row] for row in rows]
            loaded = load_batch(self.images.reader, paths, self.spec, self._settings(len(paths)))
            if len(rows) == len(self.rows):
                self._all = loaded.images
            self._readable.append(rows[loaded.rows])
            self._n_taken += len(rows)
            if loaded.rows:
                yield torch.from_numpy(self.audit_labels[self._readable[-1]]), loaded.images
            self._tell(len(rows))
        left = np.concatenate(self._readable)
        if not len(left):
            raise LayerError(str(self.images.root), "none of the images can be read again")
        if len(left) < len(self):
            log.warning("%d images could not be read again and are left out", len(self) - len(left))
        self.rows, self._n_taken = left, len(left)

    def read_more(self, rows: Int[np.ndarray, " m"]) -> Iterator[tuple[Int[Tensor, " m"], Float[Tensor, "m c h w"]]]:
        """Add these rows of the audit split to the images, and yield them as `read_first` does."""
        for start in range(0, len(rows), self.most):
            part = rows[start : start + self.most]
            paths = [self.paths[row] for row in part]
            loaded = load_batch(self.images.reader, paths, self.spec, self._settings(len(paths)))
            self.rows = np.concatenate([self.rows, part[loaded.rows]])
            if self._all is not None:
                self._all = torch.cat([self._all, loaded.images]) if len(self.rows) <= self.most else None
            if loaded.rows:
                yield torch.from_numpy(self.audit_labels[part[loaded.rows]]), loaded.images

    def keep(self, n: int) -> None:
        """Keep the first `n` images."""
        self.rows = self.rows[:n]
        self._all = None if self._all is None else self._all[:n]

    def keep_finished(self, n: int) -> int:
        """Keep of the first `n` images that `read_first` gave those whose class has no other image; return how many.

        Images are class by class.
        """
        read = np.concatenate(self._readable)
        kept, rest = read[:n], np.concatenate([read[n:], self.rows[self._n_taken :]])
        if len(rest):
            kept = kept[self.audit_labels[kept] != self.audit_labels[rest[0]]]
        self.rows = kept
        self.keep(len(kept))
        return len(kept)

    def _tell(self, n: int) -> None:
        """Tell that so many more images were looked at."""
        self._seen += n
        if self.advance is not None:
            self.advance(min(self._seen, ROUNDS * len(self)), ROUNDS * len(self))

    def _settings(self, n: int) -> LoaderSettings:
        size = max(1, min(BATCH, BATCH_BYTES // (4 * math.prod(self.spec.input_size))))
        return LoaderSettings(size, self.workers if n > FEW else 0)
