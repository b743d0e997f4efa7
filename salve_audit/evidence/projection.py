"""A concept as an oblique projection of a layer's channels: what it writes there, and how it is read off again.

Removing a concept's direction from every position (an orthogonal projection) also removes what everything else has of
that direction. The readout is therefore not the direction itself but its best linear discriminant: 1 where the
concept is, as little as possible elsewhere. With the directions D and the readout R, both (r, d), the positions become
``x - t x R^T D``, and since ``R D^T = I``, nothing is left of the concept at t = 1 that R could read.

`Removal` is what measuring a removal at a layer needs of it, so that controls are measured in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.linear_algebra import decompose_symmetric, factorise, solve_symmetric

SHRINKAGE = 0.01  # of the mean variance, added to every channel's
LEAST_ENERGY = 1e-20
LEAST_SHARE = 1e-9  # of the largest, for a further direction


@runtime_checkable
class Removal(Protocol):
    """Something that can be removed at every position: strength t leaves ``positions - t * part(positions)``."""

    def part(self, positions: Float[Tensor, "b p d"]) -> Float[Tensor, "b p d"]:
        """Compute what strength 1 removes from b outputs of the layer with p positions of d channels."""
        ...


@dataclass(frozen=True, eq=False)
class ConceptProjection:
    """Directions and readout of a concept, (r, d) float64, with ``readout @ directions.T`` the identity."""

    directions: Float[np.ndarray, "r d"]
    readout: Float[np.ndarray, "r d"]

    @property
    def rank(self) -> int:
        """Number of directions."""
        return len(self.directions)

    def part(self, positions: Float[Tensor, "b p d"]) -> Float[Tensor, "b p d"]:
        """Compute what strength 1 removes from b outputs of the layer with p positions of d channels."""
        read, written = (torch.from_numpy(rows).to(positions) for rows in (self.readout, self.directions))
        return positions @ read.T @ written

    def matrix(self, strength: float) -> Float[np.ndarray, "d d"]:
        """Matrix M (d, d) such that ``positions @ M`` is what a removal at this strength leaves."""
        return np.asarray(np.eye(self.directions.shape[1]) - strength * self.readout.T @ self.directions)


def fit_projection(
    lost: Float[np.ndarray, "d d"], background: Float[np.ndarray, "d d"], rank: int, shrinkage: float = SHRINKAGE
) -> ConceptProjection | None:
    """Fit the oblique projection of a concept; None: its evidence regions leave no trace in the layer.

    The directions are those in which most is lost, relative to what the background has there; the readout is the one
    of least background among those that read every direction as itself. ``shrinkage -> inf`` gives the orthogonal
    projection. Both moments are about zero, since a projection has no constant: the readout of the background should be
    0 and not merely vary little.

    Args:
        lost: second moment of what positions lose where the concept's regions are removed.
        background: second moment of positions without the concept.
        rank: number of directions, at most.
        shrinkage: of the background towards a multiple of the identity.
    """
    d = len(background)
    finite = np.isfinite(lost).all() and np.isfinite(background).all()
    if not finite or not float(np.trace(lost)) > LEAST_ENERGY:
        return None
    level = float(np.trace(background)) / d or 1.0
    shrunk = background + shrinkage * level * np.eye(d)
    factor = factorise(shrunk)
    whitened = np.linalg.solve(factor, np.linalg.solve(factor, lost).T)  # triangular, with a diagonal above 0
    sizes, columns = decompose_symmetric(whitened)  # the largest last
    largest = [i for i in range(d - 1, d - 1 - min(rank, d), -1) if sizes[i] > LEAST_SHARE * sizes[-1]]
    directions = _orthonormal((factor @ columns[:, largest]).T)
    gain = solve_symmetric(shrunk, directions.T).T  # (r, d)
    return ConceptProjection(directions, solve_symmetric(gain @ directions.T, gain))


def mix_moments(parts: Sequence[tuple[float, Float[np.ndarray, "d d"]]]) -> Float[np.ndarray, "d d"]:
    """Compute the weighted mean of second moments; at least one weight is above 0."""
    total = sum(weight for weight, _ in parts)
    assert total > 0, "no moment has a weight"
    return np.asarray(sum(weight * moment for weight, moment in parts) / total)


def combine(removals: Sequence[tuple[ConceptProjection, float]]) -> Float[np.ndarray, "d d"]:
    """Multiply the matrices of several removals (projection, strength), applied one after another."""
    assert removals, "nothing to remove"
    total = removals[0][0].matrix(removals[0][1])
    for projection, strength in removals[1:]:
        total = total @ projection.matrix(strength)
    return total


def _orthonormal(rows: Float[np.ndarray, "r d"]) -> Float[np.ndarray, "r d"]:
    return np.linalg.qr(rows.T)[0].T
