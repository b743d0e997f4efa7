"""Principal coordinates: what autoencoders are trained in (docs/method.md §1.4).

Turned into the coordinates of its principal components the data is the same, and so is every loss, but Adam, which
scales each coordinate's step on its own, then scales them along the axes in which the variances differ: trainings get
as far in a tenth of the steps. Components that neither the held-out samples nor the head's predictions need are left
out, so that cost grows with what the data spans, at most min(n, d), and not with d.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.linear_algebra import decompose_rows, decompose_tensor
from salve_audit.sae.metrics import LEAST_R2

EXPLAINED = 0.99  # of the held-out variance, by the components that are kept
KEPT_ACCURACY = 0.998  # share of the head's held-out accuracy on them, below which the head's directions are added
NEARLY_ALL = 0.98  # share of the held-out variance from which the goal is that for all of it
RECURRENCE = 0.5  # squared cosine with what the other half of the samples finds, below which components are chance
LEAST_LOSS, LOSS = 3.0, 0.25  # components, and share of the most that was gained, whose loss ends the search
SMALLEST_VARIANCE = 1e-10  # of the largest component's, below which one is rounding
CHUNK_ROWS = 1024  # whose products are summed up in float32
MOST_ROWS, MOST_COMPARED = 12_000, 1024  # samples that moments are taken of, and components that halves are compared in


@dataclass(frozen=True, eq=False)
class Subspace:
    """Orthonormal directions, by falling variance.

    Attributes:
        basis: (r, d) float64 rows.
        explained: (r,) share of the held-out variance that the first 1, 2 … r of them explain.
    """

    basis: Float[np.ndarray, "r d"]
    explained: Float[np.ndarray, " r"]

    @property
    def rank(self) -> int:
        """Number of directions."""
        return len(self.basis)

    def count(self, explained: float) -> int:
        """Number of components that explain the given share of the held-out variance; all, where none do."""
        return min(int(np.searchsorted(self.explained, explained)) + 1, self.rank)

    def first(self, n: int) -> Subspace:
        """The subspace of the first n directions."""
        return Subspace(self.basis[:n], self.explained[:n])

    def project(self, acts: Float[Tensor, "n d"]) -> Float[Tensor, "n r"]:
        """Coordinates of normalised activations."""
        return acts @ torch.from_numpy(self.basis.T).to(acts.device, acts.dtype)


def find_subspace(
    acts: Float[Tensor, "t d"],
    held: Float[Tensor, "v d"],
    labels: Int[np.ndarray, " v"],
    head: LinearHead | None,
    most: int,
) -> Subspace:
    """The principal components that can be learnt from so many samples, and what the head's predictions need.

    Components count up to 99 % of the held-out variance, and up to where two halves of the samples no longer find the
    same ones: beyond, a dictionary would hold what is particular to its samples, and each seed or sample another.

    Args:
        acts: centred training samples, on any device, in random order or not.
        held: held-out samples in the same units.
        labels: of the held-out samples.
        head: of activations in the same units; None: the variance alone decides.
        most: components that can be trained in the time that so many samples are worth.
    """
    acts = acts[:: -(-len(acts) // MOST_ROWS)]
    basis = _components(acts)
    explained = _share_explained(held, basis)
    rank = min(int(np.searchsorted(explained, EXPLAINED)) + 1, _count_recurring(acts, basis[:MOST_COMPARED]), most)
    if head is not None and not _is_kept(held, labels, head, basis[:rank]):
        basis = _with_head(basis, rank, head)
    else:
        basis = basis[:rank]
    return Subspace(basis, _share_explained(held, basis))


def _share_explained(held: Float[Tensor, "v d"], basis: Float[np.ndarray, "r d"]) -> Float[np.ndarray, " r"]:
    """Share of the held-out variance that the first 1, 2 … r rows explain."""
    coordinates = held @ torch.from_numpy(basis.T).to(held.device, held.dtype)
    total = float(held.double().square().sum())
    explained = coordinates.double().square().sum(0).cumsum(0).cpu().numpy()
    return np.asarray(explained / max(total, np.finfo(float).tiny))


def _count_recurring(acts: Float[Tensor, "t d"], basis: Float[np.ndarray, "r d"]) -> int:
    """Number of leading components that both halves of the samples find; all of `basis` where none is lost."""
    coordinates = acts @ torch.from_numpy(basis.T).to(acts.device, acts.dtype)
    order = torch.randperm(len(acts), generator=torch.Generator().manual_seed(0)).to(acts.device)
    first, second = (_components(coordinates[rows] - coordinates[rows].mean(0)) for rows in order.chunk(2))
    n = min(len(first), len(second))
    squares = np.square(first[:n] @ second[:n].T)
    shared = np.array([squares[:size, :size].sum() for size in range(1, n + 1)])
    gained = shared - RECURRENCE * np.arange(1, n + 1)
    best = np.maximum.accumulate(gained)
    lost = np.flatnonzero(gained < best - np.maximum(LEAST_LOSS, LOSS * best))
    if not len(lost):  # as many as there are: towards the end both halves span the same whatever they find
        return len(basis)
    return int(np.argmax(gained[: lost[0]])) + 1


def _is_kept(
    held: Float[Tensor, "v d"], labels: Int[np.ndarray, " v"], head: LinearHead, basis: Float[np.ndarray, "r d"]
) -> bool:
    """True if the head is as good on what the components hold of the held-out samples as on the samples."""
    rows, weight = (torch.from_numpy(array).to(held.device, held.dtype) for array in (basis, head.weight))
    bias, answers = torch.from_numpy(head.bias).to(held.device), torch.from_numpy(labels).to(held.device)
    before, after = (
        float(((acts @ weight.T + bias).argmax(1) == answers).double().mean()) for acts in (held, held @ rows.T @ rows)
    )
    return after >= KEPT_ACCURACY * before


def _with_head(basis: Float[np.ndarray, "c d"], rank: int, head: LinearHead) -> Float[np.ndarray, "r d"]:
    """The first `rank` components and the directions in which the head tells the classes apart, or more components.

    More components where the classes are so many that their directions would outnumber the components.
    """
    contrasts = head.weight.astype(np.float64) - head.weight.mean(axis=0, dtype=np.float64)
    if len(contrasts) > rank:
        return basis[: 2 * len(contrasts)]
    kept = basis[:rank]
    rest = contrasts - contrasts @ kept.T @ kept
    sizes, directions = decompose_rows(rest)
    added = directions[sizes > SMALLEST_VARIANCE * np.linalg.norm(contrasts)]
    stacked = np.linalg.qr(np.concatenate([kept, added]).T)[0].T  # orthonormal again after rounding
    return np.ascontiguousarray(stacked)


def _components(acts: Float[Tensor, "t d"]) -> Float[np.ndarray, "r d"]:
    """Principal components of centred samples, in float64: orthonormal rows of falling variance."""
    n, d = acts.shape
    if n > d:
        products = torch.zeros(d, d, dtype=torch.float64, device=acts.device)
        for start in range(0, n, CHUNK_ROWS):
            chunk = acts[start : start + CHUNK_ROWS]
            products += chunk.T @ chunk
        values, vectors = _decompose(products)
        return np.ascontiguousarray(vectors[:, _living(values)].T.cpu().numpy())
    exact = acts.double()
    values, vectors = _decompose(exact @ exact.T)
    rows = vectors[:, _living(values)].T @ exact
    return np.ascontiguousarray(torch.linalg.qr(rows.T).Q.T.cpu().numpy())  # orthonormal again after rounding


def _decompose(products: Float[Tensor, "s s"]) -> tuple[Tensor, Tensor]:
    """Eigenvalues and -vectors, the largest first."""
    values, vectors = decompose_tensor(products)
    return values.flip(0), vectors.flip(1)


def _living(values: Tensor) -> Tensor:
    return values > SMALLEST_VARIANCE * values[0]


def find_goal(subspace: Subspace) -> float:
    """R² of 0.9, or as much of what the components hold of unseen samples where that is clearly less than all.

    Of few samples in many dimensions no autoencoder can learn more than the components that recur.
    """
    return LEAST_R2 * min(1.0, float(subspace.explained[-1]) / NEARLY_ALL)
