"""Training samples that stay in their file: blocks in random order, mixed in a buffer.

What a step needs is read when it is needed, and a training of few steps reads a part of a large set only. Memory holds
one buffer and one sample of the rows (for initial weights, moments of codes and the like), whatever the file's size.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.machine import available_memory
from salve_audit.sae.normalisation import Normalisation, normalise
from salve_audit.sae.subspace import Subspace

logger = logging.getLogger(__name__)

BLOCK_ROWS = 64  # read as one: short, because files are often sorted by class, and yet 100 kB at d = 512
BUFFER_BYTES = 256 * 2**20
SAMPLE_BYTES = 128 * 2**20
MOST_MEMORY = 2**30  # bytes that training samples take where the caller sets no limit ...
MEMORY_SHARE = 0.25  # ... and this share of the memory that is free at most
ORDER_SEED = 0  # the same blocks for all seeds: they read the file once; each mixes the buffer in its own way


@dataclass(frozen=True, eq=False)
class Stream:
    """Rows of an array that may be larger than memory.

    Attributes:
        acts: (n, d), memory-mapped.
        rows: (t,) the training rows, ascending.
        normalisation: what training sees.
        device: where batches are wanted.
        subspace: whose coordinates are wanted; None: those of the activations.
    """

    acts: Float[np.ndarray, "n d"]
    rows: Int[np.ndarray, " t"]
    normalisation: Normalisation
    device: torch.device
    subspace: Subspace | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, batch_size: int, generators: Sequence[torch.Generator]) -> Iterator[Float[Tensor, "s b d"]]:
        """Batches without end: every epoch has each row once, in batches of the seed's own mixing."""
        blocks = torch.Generator().manual_seed(ORDER_SEED)
        n_rows = batch_size * max(1, BUFFER_BYTES // (4 * self.acts.shape[1] * batch_size))
        while True:
            order = self._order(blocks)
            for start in range(0, len(order), n_rows):
                buffer = self.read(np.sort(order[start : start + n_rows]))
                mixed = [torch.randperm(len(buffer), device=g.device, generator=g) for g in generators]
                for numbers in torch.split(torch.stack(mixed), batch_size, dim=1):
                    yield buffer.index_select(0, numbers.flatten()).view(*numbers.shape, -1)

    def sample(self, generator: torch.Generator) -> Int[np.ndarray, " r"]:
        """Positions in `rows`, ascending, of random blocks that fit `SAMPLE_BYTES`."""
        n_rows = max(BLOCK_ROWS, SAMPLE_BYTES // (4 * self.acts.shape[1]))
        return np.sort(self._positions(generator)[:n_rows])

    def read(self, rows: Int[np.ndarray, " r"]) -> Float[Tensor, "r d"]:
        """The given rows as training sees them, on the device."""
        acts = normalise(self.acts, rows, self.normalisation, self.device)
        return acts if self.subspace is None else self.subspace.project(acts)

    def _order(self, generator: torch.Generator) -> Int[np.ndarray, " t"]:
        return self.rows[self._positions(generator)]

    def _positions(self, generator: torch.Generator) -> Int[np.ndarray, " t"]:
        blocks = torch.randperm(math.ceil(len(self.rows) / BLOCK_ROWS), generator=generator).numpy()
        positions = (blocks[:, None] * BLOCK_ROWS + np.arange(BLOCK_ROWS)).ravel()
        return positions[positions < len(self.rows)]


def fits_memory(n: int, d: int, limit: int | None) -> bool:
    """True if n training samples of d float32 values are held in memory; `limit` in bytes, None: `default_limit`."""
    allowed = default_limit() if limit is None else limit
    fits = 4 * n * d <= allowed
    how = "held in memory" if fits else "read from their file block by block"
    logger.info("%d training samples of %d coordinates (%.2g GB) are %s", n, d, 4e-9 * n * d, how)
    return fits


def default_limit() -> int:
    """Bytes that training samples may take: 1 GiB, or a quarter of what is free."""
    return min(MOST_MEMORY, int(MEMORY_SHARE * available_memory()))
