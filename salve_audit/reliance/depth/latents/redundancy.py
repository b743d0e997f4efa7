"""How many concepts have to be taken out of a layer until at most half of a class is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.reliance.depth.assess import draw_interval
from salve_audit.reliance.depth.latents.suppression import remove_each
from salve_audit.reliance.depth.latents.tail import LayerTail, parts_of
from salve_audit.reliance.depth.removal import Removal

HALF = 0.5
STEPS = 4


@dataclass(frozen=True)
class Together:
    """Several removals at once; where they are groups of latents, these must not overlap."""

    removals: tuple[Removal, ...]

    def part(self, positions: Float[Tensor, "b p d"]) -> Float[Tensor, "b p d"]:
        """The sum of their parts."""
        return torch.stack(list(parts_of(self.removals, positions))).sum(0)


@dataclass(frozen=True)
class LayerRedundancy:
    """Removals of a class in the order of their attribution.

    Attributes:
        order: numbers of the removals, the strongest first.
        right: (1 + j,) share of the class's pictures that are right with none, one, ... of them taken out.
        others: (1 + j,) the same of the pictures of other classes; NaN without such.
        count: how many bring the class to 50 % or below; None: not even j. With its 95 % interval over pictures,
            None there: beyond j.
    """

    order: tuple[int, ...]
    right: tuple[float, ...]
    others: tuple[float, ...]
    count: int | None
    low: int | None
    high: int | None


def attribute_removals(
    tail: LayerTail, removals: Sequence[Removal], rows: Int[np.ndarray, " n"], n_steps: int = STEPS
) -> Float[np.ndarray, "r n"]:
    """What each removal's part adds to the margin of each picture: integrated gradients at the layer, summed over it.

    The way starts where all removals are taken out. Source: Sundararajan et al., arXiv 1703.01365.

    Raises:
        LayerError: the network fails.
    """
    found = []
    for batch in tail.reach(rows):
        with torch.no_grad():
            taken = torch.zeros_like(batch.positions)
            for part in parts_of(removals, batch.positions):
                taken += part
        slope = tail.gradient(batch, taken, n_steps)
        with torch.no_grad():
            each = [(part * slope).sum((1, 2)) for part in parts_of(removals, batch.positions)]
        found.append(torch.stack(each).cpu().numpy())
    return np.concatenate(found, axis=1)


def count_concepts(
    tail: LayerTail,
    removals: Sequence[Removal],
    label: int,
    rows: Int[np.ndarray, " n"],
    rng: np.random.Generator,
    most: int = 10,
) -> LayerRedundancy:
    """The smallest number of removals, by falling attribution, that leaves at most half of the class right.

    Args:
        tail: of the network.
        removals: concepts; latents in one of them only.
        label: the class.
        rows: pictures of it, and of others to see what that costs them.
        rng: draws of the interval.
        most: removals at most.

    Raises:
        LayerError: the network fails.
    """
    labels = tail.source.labels[rows]
    own = labels == label
    strength = attribute_removals(tail, removals, rows[own]).mean(1)
    order = np.argsort(-strength, kind="stable")[:most].tolist()
    steps = [Together(tuple(removals[one] for one in order[: i + 1])) for i in range(len(order))]
    clean, changed = remove_each(tail, steps, rows)
    right = np.concatenate([clean[None], changed]) > 0  # (1 + j, n)
    low, high = draw_interval(lambda picks: _first_below(right[:, own][:, picks]), int(own.sum()), rng)
    return LayerRedundancy(
        tuple(order),
        tuple(right[:, own].mean(1).tolist()),
        tuple(right[:, ~own].mean(1).tolist()) if (~own).any() else (float("nan"),) * len(right),
        _or_none(_first_below(right[:, own])),
        _or_none(low) if np.isfinite(low) else 0,
        _or_none(high),
    )


def _first_below(right: np.ndarray) -> float:
    """The first row of (1 + j, n) with at most half right; inf: none."""
    below = np.flatnonzero(right.mean(1) <= HALF)
    return float(below[0]) if len(below) else float("inf")


def _or_none(count: float) -> int | None:
    return int(count) if np.isfinite(count) else None
