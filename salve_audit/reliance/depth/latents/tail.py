"""The network's own rest on changed outputs of a layer, for any number of removals, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.inputs.head import LinearHead
from salve_audit.reliance.depth.attribution import COUNTED
from salve_audit.reliance.depth.latents.groups import LatentGroup
from salve_audit.reliance.depth.latents.positions import BATCH, PictureSource
from salve_audit.reliance.depth.network import hard_margin, soft_margin
from salve_audit.reliance.depth.removal import Removal
from salve_audit.spatial.cut import CutNetwork, CutPass


@dataclass(frozen=True, eq=False)
class LayerBatch:
    """Pictures that have reached the layer.

    Attributes:
        rows: (b,) their numbers in the source.
        labels: (b,) the class that is asked about.
        passed: their pass.
        positions: (b, p, d) of the layer.
    """

    rows: Int[np.ndarray, " b"]
    labels: Int[Tensor, " b"]
    passed: CutPass
    positions: Float[Tensor, "b p d"]

    def __len__(self) -> int:
        return len(self.rows)


class LayerTail:
    """Asks a cut network again and again, with other outputs of its layer.

    Args:
        cut: at the layer.
        source: pictures.
        head: that logits are computed with; None: the network's own.
        batch_size: outputs of the layer at once.

    Attributes:
        n_passes: of one picture so far: a pass up to the layer and on, or from the layer on, is one, with a backward
            pass three.
    """

    def __init__(
        self, cut: CutNetwork, source: PictureSource, head: LinearHead | None = None, batch_size: int = BATCH
    ) -> None:
        self.cut, self.source, self.batch_size, self.n_passes = cut, source, batch_size, 0
        self._head = None if head is None else (torch.from_numpy(head.weight), torch.from_numpy(head.bias))

    def reach(self, rows: Int[np.ndarray, " n"]) -> Iterator[LayerBatch]:
        """The pictures of these rows at the layer, batch by batch.

        Raises:
            LayerError: the network fails.
        """
        for start in range(0, len(rows), self.batch_size):
            part = rows[start : start + self.batch_size]
            passed = self.cut.run(self.source.load(part))
            self.n_passes += len(part)
            labels = torch.from_numpy(self.source.labels[part]).long().to(passed.acts.device)
            yield LayerBatch(part, labels, passed, self.cut.layer.layout.to_positions(passed.output))

    def clean(self, batch: LayerBatch) -> Float[Tensor, " b"]:
        """Margins with nothing taken out."""
        return hard_margin(self._weigh(batch.passed.acts, batch.passed.logits), batch.labels)

    @torch.no_grad()
    def margins(
        self, batch: LayerBatch, positions: Float[Tensor, "r p d"], which: Int[Tensor, " r"]
    ) -> Float[Tensor, " r"]:
        """Margin of the class over the best other, with other positions.

        Args:
            batch: of `reach`.
            positions: in place of the layer's own.
            which: which picture of the batch each of them belongs to.
        """
        found = []
        for start in range(0, len(which), self.batch_size):
            rows = which[start : start + self.batch_size]
            logits = self._logits(batch, positions[start : start + self.batch_size], rows)
            found.append(hard_margin(logits, batch.labels[rows]))
        return torch.cat(found) if found else batch.positions.new_zeros(0)

    def gradient(self, batch: LayerBatch, taken: Float[Tensor, "b p d"], n_steps: int) -> Float[Tensor, "b p d"]:
        """Mean gradient of the soft margin on the way from the positions without `taken` to the positions."""
        total = torch.zeros_like(batch.positions)
        every = torch.arange(len(batch), device=total.device)
        for step in range(n_steps):
            share = 1 - (step + 0.5) / n_steps
            at = (batch.positions - share * taken).detach().requires_grad_(True)
            with torch.enable_grad():
                margin = soft_margin(self._logits(batch, at, every), batch.labels).sum()
            total += torch.autograd.grad(margin, at)[0]
            self.n_passes += (COUNTED - 1) * len(batch)  # besides the forward pass that `_logits` counts
        return total / n_steps

    def _logits(self, batch: LayerBatch, positions: Tensor, rows: Tensor) -> Float[Tensor, "r k"]:
        outputs = self.cut.layer.layout.with_positions(batch.passed.output[rows], positions)
        seen = self.cut.follow(batch.passed, outputs, rows)
        self.n_passes += len(rows)
        return self._weigh(seen.acts, seen.logits)

    def _weigh(self, acts: Tensor, logits: Tensor) -> Float[Tensor, "r k"]:
        if self._head is None:
            return logits
        weight, bias = (one.to(acts) for one in self._head)
        return acts @ weight.T + bias


def parts_of(removals: Sequence[Removal], positions: Float[Tensor, "b p d"]) -> Iterator[Float[Tensor, "b p d"]]:
    """What each removal takes out at strength 1; positions are encoded once for groups of one dictionary in a row."""
    known, codes = None, None
    for one in removals:
        if not isinstance(one, LatentGroup):
            yield one.part(positions)
            continue
        if codes is None or known is not one.dictionary:
            known, codes = one.dictionary, one.dictionary.encode(positions)
        yield one.part_of_codes(codes)
