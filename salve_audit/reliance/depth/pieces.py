"""Pieces of evidence as values: where they are in each picture, and what taking them out does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_ROWS = ("labels", "clean", "regions", "alone", "together", "traits")  # with a row for each picture


@dataclass(frozen=True)
class Evidence:
    """Pieces of evidence of n pictures, strongest first; NaN where none was searched.

    Attributes:
        labels: (n,) the class that is asked about.
        clean: (n,) margin of the class over the best other, nothing taken out.
        regions: (n, j, gh, gw) cells of each piece.
        alone: (n, j) margin with that piece alone taken out.
        together: (n, j) margin with it and all before it taken out.
        traits: (n, j, d) what the layer loses there: tells kinds of evidence apart.
        n_passes: forward passes of one picture, a backward pass counted as two.
    """

    labels: Int[Tensor, " n"]
    clean: Float[Tensor, " n"]
    regions: Bool[Tensor, "n j gh gw"]
    alone: Float[Tensor, "n j"]
    together: Float[Tensor, "n j"]
    traits: Float[Tensor, "n j d"]
    n_passes: int

    @property
    def correct(self) -> Bool[Tensor, " n"]:
        return self.clean > 0

    @property
    def flips(self) -> Bool[Tensor, "n j"]:
        """Taking out that piece alone changes the prediction of a picture that was right."""
        return (self.alone <= 0) & self.correct[:, None]  # NaN compares as False

    def take(self, rows: slice | Int[np.ndarray, " m"]) -> Evidence:
        """That of some of the pictures; passes are not divided among them."""
        own = {name: getattr(self, name)[rows if isinstance(rows, slice) else torch.from_numpy(rows)] for name in _ROWS}
        return Evidence(**own, n_passes=0)


def join_evidence(parts: Sequence[Evidence]) -> Evidence:
    """That of all their pictures, on the processor."""
    joined = {name: torch.cat([getattr(part, name) for part in parts]).cpu() for name in _ROWS}
    return Evidence(**joined, n_passes=sum(part.n_passes for part in parts))
