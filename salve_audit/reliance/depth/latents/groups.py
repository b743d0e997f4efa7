"""A concept as a set of latents, and ways to find such sets; each way is a function that gives groups.

A cue is rarely one latent: dictionaries split it into parts. Latents that fire at the same places, whose removal moves
the same pictures, or that depend on one another within a class may be parts of one thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform
from torch import Tensor
from torch.nn import functional

from salve_audit.reliance.depth.latents.dictionary import PositionDictionary

LEAST_EFFECT = 0.05  # of the largest: latents that move nothing are like nothing
Latents = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class LatentGroup:
    """Latents that are taken out together: a `Removal`. The error term and all other latents stay.

    Attributes:
        dictionary: whose latents.
        latents: their numbers.
        level: (m,) the code that strength 1 leaves; None: 0, what a code is where the thing is not there.
    """

    dictionary: PositionDictionary
    latents: Latents
    level: Float[Tensor, " m"] | None = None

    def part(self, positions: Float[Tensor, "b p d"]) -> Float[Tensor, "b p d"]:
        """``sum over latents of (code - level) * row``."""
        return self.part_of_codes(self.dictionary.encode(positions))

    def part_of_codes(self, codes: Float[Tensor, "b p m"]) -> Float[Tensor, "b p d"]:
        """The same where the codes are known."""
        chosen = torch.tensor(self.latents, dtype=torch.long, device=codes.device)
        own = codes[..., chosen]
        if self.level is not None:
            own = own - self.level.to(codes)[chosen]
        return own @ self.dictionary.rows(codes)[chosen]


def single_latents(dictionary: PositionDictionary) -> tuple[Latents, ...]:
    """Every living latent by itself."""
    return tuple((int(one),) for one in np.flatnonzero(dictionary.alive))


def random_groups(dictionary: PositionDictionary, size: int, n: int, rng: np.random.Generator) -> tuple[Latents, ...]:
    """Groups of `size` living latents; fewer where not so many live."""
    alive = np.flatnonzero(dictionary.alive)
    size = min(size, len(alive))
    return tuple(tuple(sorted(rng.choice(alive, size, replace=False).tolist())) for _ in range(n))


def group_by_place(codes: Float[Tensor, "n gh gw m"], least: float = 0.5) -> tuple[Latents, ...]:
    """Latents that fire at the same places, give or take one: correlation of their codes over all positions.

    Args:
        codes: of pictures of all classes.
        least: mean correlation within a group.
    """
    return _cluster(_correlate(_widen(codes).flatten(0, 2)), least)


def group_by_effect(changes: Float[np.ndarray, "m n"], least: float = 0.7) -> tuple[Latents, ...]:
    """Latents whose removal moves the margins of the same pictures alike: cosine of their changes.

    Args:
        changes: (m, n) what removing latent i takes from the margin of picture j.
        least: mean cosine within a group; latents that move less than 5 % of what the strongest moves stay alone.
    """
    norms = np.linalg.norm(changes, axis=1)
    strong = norms > LEAST_EFFECT * norms.max(initial=0.0)
    units = np.where(strong[:, None], changes / norms.clip(1e-12)[:, None], 0.0)
    likeness = units @ units.T
    likeness[~strong], likeness[:, ~strong] = 0.0, 0.0
    return _cluster(likeness, least)


def coarse_level(
    dictionary: PositionDictionary, level: int, codes: Float[Tensor, "n gh gw m"] | None = None, least: float = 0.3
) -> tuple[Latents, ...]:
    """The latents of a coarse level of a ``matryoshka`` dictionary, with the finer ones that fire at their places.

    Args:
        level: 0 is the coarsest.
        codes: to find each finer latent's coarse one; None: the coarse ones alone.
        least: correlation below which a finer latent belongs to none.
    """
    end = dictionary.prefixes[level]
    coarse = np.flatnonzero(dictionary.alive[:end])
    groups: dict[int, list[int]] = {int(one): [int(one)] for one in coarse}
    if codes is not None:
        likeness = _correlate(_widen(codes).flatten(0, 2))
        for fine in (np.flatnonzero(dictionary.alive[end:]) + end).tolist():
            nearest = int(coarse[likeness[fine, coarse].argmax()])
            if likeness[fine, nearest] >= least:
                groups[nearest].append(fine)
    return tuple(tuple(one) for one in groups.values())


def cut_by_independence(
    groups: Iterable[Latents], codes: Float[Tensor, "n gh gw m"], least: float = 0.2
) -> tuple[Latents, ...]:
    """Groups cut where their latents are independent among the pictures of one class.

    Parts of one thing come and go, and move, together; redundant cues do so independently. Where a latent fires at the
    same place in every picture of the class, its mean there is taken off, so that a fixed place is no dependence.

    Args:
        groups: of latents.
        codes: of pictures of one class.
        least: correlation, over pictures and positions, that joins two latents.
    """
    placed = _widen(codes)
    likeness = _correlate((placed - placed.mean(0)).flatten(0, 2))
    parts: list[Latents] = []
    for group in groups:
        own = np.asarray(group)
        n, part = connected_components(likeness[np.ix_(own, own)] >= least, directed=False)
        parts += [tuple(own[part == one].tolist()) for one in range(n)]
    return tuple(parts)


def living(groups: Iterable[Latents], dictionary: PositionDictionary) -> tuple[Latents, ...]:
    """The groups without dead latents, and without those that are empty then."""
    alive: Bool[np.ndarray, " m"] = dictionary.alive
    kept = (tuple(one for one in group if alive[one]) for group in groups)
    return tuple(group for group in kept if group)


def as_removals(dictionary: PositionDictionary, groups: Sequence[Latents]) -> tuple[LatentGroup, ...]:
    return tuple(LatentGroup(dictionary, one) for one in groups)


def _widen(codes: Float[Tensor, "n gh gw m"]) -> Float[Tensor, "n gh gw m"]:
    """Each place's largest code within one position."""
    return functional.max_pool2d(codes.movedim(-1, 1), 3, 1, 1).movedim(1, -1)


def _correlate(codes: Float[Tensor, "q m"]) -> Float[np.ndarray, "m m"]:
    """Correlation of latents; 0 with those that do not vary."""
    centred = (codes - codes.mean(0)).cpu().double()
    covariance = (centred.T @ centred).numpy()
    scale = np.sqrt(np.diag(covariance))
    return np.divide(
        covariance, np.outer(scale, scale), out=np.zeros_like(covariance), where=np.outer(scale, scale) > 0
    )


def _cluster(likeness: Float[np.ndarray, "m m"], least: float) -> tuple[Latents, ...]:
    """Average linkage, cut where the mean likeness of two groups is below `least`."""
    if len(likeness) < 2:
        return tuple((one,) for one in range(len(likeness)))
    distance = 1 - (likeness + likeness.T) / 2
    np.fill_diagonal(distance, 0.0)
    group = fcluster(linkage(squareform(distance.clip(0, 2), checks=False), "average"), 1 - least, "distance")
    return tuple(tuple(np.flatnonzero(group == one).tolist()) for one in np.unique(group))
