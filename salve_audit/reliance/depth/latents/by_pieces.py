"""A concept's latents, chosen by its pieces of evidence: latents that do in the layer what taking out the pieces does.

Two ways, both greedy. By presence: codes that together tell where the pieces are, in the pictures that show them. By
loss: latents whose removal changes the layer as nearly as possible as taking the pieces out of the picture does, there
and, where other pictures are given, as little as possible in those.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from salve_audit.reliance.depth.latents.dictionary import PositionDictionary
from salve_audit.reliance.depth.latents.groups import Latents

MOST_LATENTS = 8
LEAST_GAIN = 0.01  # of what is to be explained, that another latent has to add


@dataclass(frozen=True)
class PieceSearch:
    """How a concept's latents are chosen.

    Attributes:
        most: latents at most.
        least_gain: share of what is to be explained that each has to add.
        others: weight of what the removal changes in other pictures, against one picture of the concept's.
    """

    most: int = MOST_LATENTS
    least_gain: float = LEAST_GAIN
    others: float = 1.0


def cover_positions(regions: Bool[Tensor, "q gh gw"], size: tuple[int, int]) -> Float[Tensor, "q p"]:
    """The share of each of the layer's cells that a region covers."""
    return functional.adaptive_avg_pool2d(regions.float()[:, None], size).flatten(1)


def choose_by_presence(codes: Float[Tensor, "q p m"], covered: Float[Tensor, "q p"], search: PieceSearch) -> Latents:
    """Latents whose codes lie inside the pieces and not elsewhere in the same pictures, the best first.

    Greedy least squares of `covered` on the codes, with non-negative weights and a constant for each picture.
    """
    x = (codes - codes.mean(1, keepdim=True)).flatten(0, 1).cpu().double().numpy()
    y = (covered - covered.mean(1, keepdim=True)).flatten().cpu().double().numpy()
    gram, slope, total = x.T @ x, x.T @ y, float(y @ y)
    chosen: list[int] = []
    left = total
    while len(chosen) < search.most and total > 0:
        options = [one for one in range(len(gram)) if one not in chosen and gram[one, one] > 0]
        errors = [_error_with(gram, slope, total, [*chosen, one]) for one in options]
        if not options or left - min(errors) < search.least_gain * total:
            break
        chosen.append(options[int(np.argmin(errors))])
        left = min(errors)
    return tuple(chosen)


def _error_with(gram: np.ndarray, slope: np.ndarray, total: float, chosen: list[int]) -> float:
    """Squared error of the best weights, infinite where one is negative: that tells what is not there."""
    own = gram[np.ix_(chosen, chosen)]
    weights = np.linalg.lstsq(own, slope[chosen], rcond=None)[0]
    return float("inf") if (weights <= 0).any() else float(total - weights @ slope[chosen])


@dataclass(frozen=True, eq=False)
class LossTerms:
    """All that the choice by loss needs of some pictures: small, whatever their number, and added up batch by batch.

    Attributes:
        gain: (m,) what each latent writes along what is lost, summed over positions.
        gram: (m, m) products of codes, summed over positions.
        total: squared length of what is lost.
        n: pictures.
    """

    gain: Float[np.ndarray, " m"]
    gram: Float[np.ndarray, "m m"]
    total: float
    n: int

    @staticmethod
    def of(
        dictionary: PositionDictionary, codes: Float[Tensor, "q p m"], lost: Float[Tensor, "q p d"] | None = None
    ) -> LossTerms:
        """Of pictures with these codes; `lost` is the layer's output minus that without the pieces, None: 0."""
        flat = codes.flatten(0, 1)
        gram = (flat.T @ flat).cpu().double().numpy()
        if lost is None:
            return LossTerms(np.zeros(len(gram)), gram, 0.0, len(codes))
        written = (flat * (lost.flatten(0, 1) @ dictionary.rows(lost).T)).sum(0)
        return LossTerms(written.cpu().double().numpy(), gram, float(lost.cpu().double().square().sum()), len(codes))

    def __add__(self, other: LossTerms) -> LossTerms:
        return LossTerms(self.gain + other.gain, self.gram + other.gram, self.total + other.total, self.n + other.n)


def choose_by_loss(
    dictionary: PositionDictionary, shown: LossTerms, others: LossTerms | None, search: PieceSearch
) -> Latents:
    """Latents S that make ``|lost - sum over S of code * row|²`` small, the best first.

    Args:
        dictionary: whose codes.
        shown: of pictures that show the concept.
        others: of other pictures, in which nothing should change.
        search: when to stop, and what the others weigh.
    """
    rows = dictionary.sae.dictionary.astype(np.float64)
    gram = shown.gram
    if others is not None and others.n:
        gram = gram + search.others * shown.n / others.n * others.gram
    return _choose_greedily(shown.gain, gram * (rows @ rows.T), shown.total, search)


def _choose_greedily(
    gain: Float[np.ndarray, " m"], cost: Float[np.ndarray, "m m"], total: float, search: PieceSearch
) -> Latents:
    """Minimises ``s' cost s - 2 s' gain`` over sets s, latent by latent."""
    chosen: list[int] = []
    while len(chosen) < search.most:
        # adding latent i changes the squared error by this much
        change = np.diag(cost) - 2 * gain + 2 * cost[:, chosen].sum(1)
        change[chosen] = np.inf
        best = int(change.argmin())
        if -change[best] < search.least_gain * total or not change[best] < 0:
            break
        chosen.append(best)
    return tuple(chosen)
