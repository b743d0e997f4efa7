"""Pieces of evidence as values: where they are in each picture, and what taking them out does."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor


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
