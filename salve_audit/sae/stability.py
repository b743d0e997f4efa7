"""Agreement of dictionaries over seeds (docs/method.md §1): Hungarian-matched |cosine| and subspace overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from salve_audit.linear_algebra import decompose_rows
from salve_audit.results import Stability
from salve_audit.sae.models import TrainedSae

MATCH_THRESHOLD = 0.7


@dataclass(frozen=True)
class Matching:
    """The latents of one autoencoder with their partners in another.

    Attributes:
        partner: (m,) index of the matched latent in the other, -1 without partner (dead, or more latents than there).
        cosine: (m,) absolute cosine of the two dictionary rows, 0 without partner.
    """

    partner: Int[np.ndarray, " m"]
    cosine: Float[np.ndarray, " m"]


def match_dictionaries(sae: TrainedSae, other: TrainedSae) -> Matching:
    """One-to-one matching of living latents, see `match_rows`."""
    ours, theirs = np.flatnonzero(sae.alive), np.flatnonzero(other.alive)
    living = match_rows(sae.dictionary[ours], other.dictionary[theirs])
    partner = np.full(sae.n_latents, -1, dtype=np.int64)
    cosine = np.zeros(sae.n_latents)
    has_partner = living.partner >= 0
    partner[ours[has_partner]] = theirs[living.partner[has_partner]]
    cosine[ours] = living.cosine
    return Matching(partner, cosine)


def match_rows(dictionary: Float[np.ndarray, "m d"], other: Float[np.ndarray, "o d"]) -> Matching:
    """One-to-one matching of unit-norm rows that maximises the sum of |cosine|; signs are free in signed codes."""
    similarity = np.abs(dictionary.astype(np.float64) @ other.T)
    rows, columns = linear_sum_assignment(similarity, maximize=True)
    partner, cosine = np.full(len(dictionary), -1, dtype=np.int64), np.zeros(len(dictionary))
    partner[rows], cosine[rows] = columns, np.minimum(similarity[rows, columns], 1.0)
    return Matching(partner, cosine)


def compute_subspace_overlap(ours: Float[np.ndarray, "d r"], theirs: Float[np.ndarray, "d t"]) -> float:
    """Mean squared cosine of the principal angles between two spans, see `orthonormal_span`; 1 only for equal ones."""
    largest = max(ours.shape[1], theirs.shape[1])
    return min(1.0, float(np.square(ours.T @ theirs).sum() / largest)) if largest else 0.0


@dataclass(frozen=True)
class Pairs:
    """Every seed against every other one, each (s, s) and symmetric.

    Sums over matched latents are divided by the larger number of living latents of the two: one without a partner
    counts as not found again, whichever side it is on.

    Attributes:
        cosine: mean |cosine| of matched latents.
        share: share of latents whose partner has |cosine| above 0.7.
        overlap: of the subspaces.
    """

    cosine: Float[np.ndarray, "s s"]
    share: Float[np.ndarray, "s s"]
    overlap: Float[np.ndarray, "s s"]


def compare_pairs(seeds: Sequence[TrainedSae]) -> Pairs:
    """Matches each seed with each other one, once."""
    n = len(seeds)
    pairs = Pairs(np.eye(n), np.eye(n), np.eye(n))
    spans = [orthonormal_span(seed) for seed in seeds] if n > 1 else []
    for i, j in combinations(range(n), 2):
        cosine = match_dictionaries(seeds[i], seeds[j]).cosine
        larger = max(1, int(seeds[i].alive.sum()), int(seeds[j].alive.sum()))
        pairs.cosine[i, j] = pairs.cosine[j, i] = cosine.sum() / larger
        pairs.share[i, j] = pairs.share[j, i] = (cosine > MATCH_THRESHOLD).sum() / larger
        pairs.overlap[i, j] = pairs.overlap[j, i] = compute_subspace_overlap(spans[i], spans[j])
    return pairs


def assess_stability(pairs: Pairs) -> Stability | None:
    """Mean over all pairs of seeds; None for a single one. Choosing a seed afterwards does not flatter it."""
    n = len(pairs.cosine)
    if n < 2:
        return None
    upper = np.triu_indices(n, 1)
    return Stability(
        n_seeds=n,
        matched_cosine=float(pairs.cosine[upper].mean()),
        share_matched=float(pairs.share[upper].mean()),
        subspace_overlap=float(pairs.overlap[upper].mean()),
    )


def find_representative(pairs: Pairs, candidates: Sequence[int]) -> int:
    """The candidate that resembles the other seeds most, by mean |cosine|; ties: the first."""
    return candidates[int(np.argmax(pairs.cosine[list(candidates)].sum(axis=1)))]


def orthonormal_span(sae: TrainedSae) -> Float[np.ndarray, "d r"]:
    """The span of the living rows of a dictionary."""
    values, basis = decompose_rows(sae.dictionary[sae.alive].astype(np.float64))
    return np.asarray(basis[values > 1e-6 * values.max(initial=0.0)].T)
