"""The pictures that reliance at depth is measured on, as many at a time as memory is granted for."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.activations import choose_device, choose_workers
from salve_audit.activations.pictures import LoaderSettings, load_pictures, require_pictures
from salve_audit.activations.spread import spread_rows
from salve_audit.config import AuditConfig
from salve_audit.errors import LayerError
from salve_audit.inputs.classifier import TransformSpec
from salve_audit.subject import Subject

log = logging.getLogger(__name__)
HELD = 128 * 1024**2  # bytes of prepared pictures at a time; while they are put together there are twice as many
BATCH = 100
BATCH_BYTES = HELD // 16  # each decoding process works ahead by two batches
FEW = 16  # pictures that are read faster than decoding processes start


@dataclass(eq=False)
class DepthPictures:
    """Pictures of the audit split, addressed by their place among these.

    Where all of them fit into `held_bytes` they are read once and stay, else every part is read when it is needed.

    Attributes:
        subject: the audit's, with its network's transform and its pictures.
        rows: (n,) of the audit split.
        workers: decoding processes.
        held_bytes: of prepared pictures.
    """

    subject: Subject
    rows: Int[np.ndarray, " n"]
    workers: int
    held_bytes: int = HELD
    _all: Tensor | None = field(default=None, repr=False)

    @classmethod
    def of(cls, config: AuditConfig, subject: Subject, rows: Int[np.ndarray, " n"]) -> DepthPictures:
        """With the decoding processes that the audit was given."""
        return cls(subject, rows, choose_workers(config.workers, choose_device(config.device)))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def spec(self) -> TransformSpec:
        """How they are prepared."""
        assert self.subject.classifier is not None, "there is no network"
        return self.subject.classifier.transform

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """Class indices."""
        return torch.from_numpy(self.subject.activations.audit.labels[self.rows])

    @property
    def most(self) -> int:
        """Pictures that may be held at a time."""
        return max(1, self.held_bytes // (4 * math.prod(self.spec.input_size)))

    def path(self, place: int) -> str:
        """Of the picture."""
        return self.subject.activations.audit.paths[self.rows[place]]

    def load(self, places: Int[np.ndarray, " m"]) -> Float[Tensor, "m c h w"]:
        """Prepared, on the processor.

        Raises:
            DataError: one of them could be read before, and not now; names it.
        """
        if self._all is not None:
            return self._all[torch.from_numpy(places)]
        assert self.subject.images is not None, "there are no pictures"
        paths = [self.path(place) for place in places.tolist()]
        return require_pictures(self.subject.images.pictures, paths, self.spec, self._settings(len(paths)))

    def parts(self) -> Iterator[tuple[slice, Float[Tensor, "m c h w"]]]:
        """All of them, in parts that may be held: their places and the prepared pictures."""
        if self._all is not None:
            yield slice(0, len(self)), self._all
            return
        for start in range(0, len(self), self.most):
            places = np.arange(start, min(len(self), start + self.most))
            yield slice(start, start + len(places)), self.load(places)

    def spread(self) -> Float[Tensor, "m c h w"]:
        """As many as may be held, from everywhere among them."""
        return self.load(spread_rows(np.arange(len(self)), self.most)) if self._all is None else self._all

    def read_first(self) -> Iterator[tuple[Int[Tensor, " m"], Float[Tensor, "m c h w"]]]:
        """As `parts`, before it is known which can be read again: class indices and the pictures.

        What cannot be read is left out, here and from then on.

        Raises:
            LayerError: none can be read.
        """
        assert self.subject.images is not None, "there are no pictures"
        kept, source, audit = [], self.subject.images, self.subject.activations.audit
        for start in range(0, len(self), self.most):
            rows = self.rows[start : start + self.most]
            paths = [audit.paths[row] for row in rows]
            loaded = load_pictures(source.pictures, paths, self.spec, self._settings(len(paths)))
            if len(rows) == len(self.rows):
                self._all = loaded.images
            kept.append(rows[loaded.rows])
            if loaded.rows:
                yield torch.from_numpy(audit.labels[kept[-1]]), loaded.images
        left = np.concatenate(kept)
        if not len(left):
            raise LayerError(str(source.root), "none of the pictures can be read again")
        if len(left) < len(self):
            log.warning("%d pictures could not be read again and are left out at depth", len(self) - len(left))
        self.rows = left

    def _settings(self, n: int) -> LoaderSettings:
        size = max(1, min(BATCH, BATCH_BYTES // (4 * math.prod(self.spec.input_size))))
        return LoaderSettings(size, self.workers if n > FEW else 0)
