"""Runs of the rest of a network on changed outputs of a layer, for any number of removals, with their cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.evidence.probe import hard_margin
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.spatial.cut import CutNetwork, CutPass

BATCH = 100  # images


@dataclass(frozen=True)
class ImageLoader:
    """Prepared images by row of the evidence.

    Attributes:
        labels: (n,) class index of each.
        load: rows (b,) -> images (b, c, h, w) on the network's device.
    """

    labels: Int[np.ndarray, " n"]
    load: Callable[[Int[np.ndarray, " b"]], Float[Tensor, "b c h w"]]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class LayerBatch:
    """Images that have reached the layer.

    Attributes:
        rows: (b,) of the source.
        labels: (b,) the class whose margin is measured.
        passed: their pass up to the layer and on, with nothing removed.
        positions: (b, p, d) of the layer's output.
    """

    rows: Int[np.ndarray, " b"]
    labels: Int[Tensor, " b"]
    passed: CutPass
    positions: Float[Tensor, "b p d"]

    def __len__(self) -> int:
        return len(self.rows)


class LayerTail:
    """Runs a cut network again and again, with other outputs of its layer.

    Args:
        cut: at the layer.
        source: images.
        head: that logits are computed with; None: the network's own.
        batch_size: outputs of the layer at once.

    Attributes:
        n_passes: passes of a single image so far; a pass up to the layer and on, or from the layer on, counts as one.
    """

    def __init__(
        self, cut: CutNetwork, source: ImageLoader, head: LinearHead | None = None, batch_size: int = BATCH
    ) -> None:
        self.cut, self.source, self.batch_size, self.n_passes = cut, source, batch_size, 0
        self._head = None if head is None else (torch.from_numpy(head.weight), torch.from_numpy(head.bias))

    def reach(self, rows: Int[np.ndarray, " n"]) -> Iterator[LayerBatch]:
        """Run the images of these rows up to the layer and on, batch by batch.

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
        """Compute margins with nothing removed."""
        return hard_margin(self._weigh(batch.passed.acts, batch.passed.logits), batch.labels)

    @torch.no_grad()
    def margins(
        self, batch: LayerBatch, positions: Float[Tensor, "r p d"], which: Int[Tensor, " r"]
    ) -> Float[Tensor, " r"]:
        """Run the rest of the network on other positions, and compute the margin of the class over the best other.

        Args:
            batch: of `reach`.
            positions: in place of the layer's own.
            which: image of the batch that each of them belongs to.
        """
        margins = []
        for start in range(0, len(which), self.batch_size):
            rows = which[start : start + self.batch_size]
            logits = self._logits(batch, positions[start : start + self.batch_size], rows)
            margins.append(hard_margin(logits, batch.labels[rows]))
        return torch.cat(margins) if margins else batch.positions.new_zeros(0)

    def _logits(self, batch: LayerBatch, positions: Tensor, rows: Tensor) -> Float[Tensor, "r k"]:
        outputs = self.cut.layer.layout.with_positions(batch.passed.output[rows], positions)
        tail = self.cut.follow(batch.passed, outputs, rows)
        self.n_passes += len(rows)
        return self._weigh(tail.acts, tail.logits)

    def _weigh(self, acts: Tensor, logits: Tensor) -> Float[Tensor, "r k"]:
        if self._head is None:
            return logits
        weight, bias = (tensor.to(acts) for tensor in self._head)
        return acts @ weight.T + bias
