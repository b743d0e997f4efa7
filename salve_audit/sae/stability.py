"""Do other seeds find the same dictionary? METHOD §1: Hungarian-matched |cosine|, share above 0.7, subspace overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

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
    """One-to-one matching of living latents that maximises the sum of |cosine| (signs are free in signed codes)."""
    ours, theirs = np.flatnonzero(sae.alive), np.flatnonzero(other.alive)
    similarity = np.abs(sae.dictionary[ours].astype(np.float64) @ other.dictionary[theirs].T)
    rows, columns = linear_sum_assignment(similarity, maximize=True)
    partner = np.full(sae.n_latents, -1, dtype=np.int64)
    cosine = np.zeros(sae.n_latents)
    partner[ours[rows]] = theirs[columns]
    cosine[ours[rows]] = np.minimum(similarity[rows, columns], 1.0)
    return Matching(partner, cosine)


def compute_subspace_overlap(sae: TrainedSae, other: TrainedSae) -> float:
    """Mean squared cosine of the principal angles between the spans of the living rows; 1 only for equal spans."""
    ours, theirs = _orthonormal_span(sae), _orthonormal_span(other)
    largest = max(ours.shape[1], theirs.shape[1])
    return min(1.0, float(np.square(ours.T @ theirs).sum() / largest)) if largest else 0.0


def assess_stability(seeds: Sequence[TrainedSae]) -> Stability | None:
    """The first autoencoder against each of the others, averaged; None for a single one.

    Living rows without a partner count as unmatched, with |cosine| 0.
    """
    first, others = seeds[0], seeds[1:]
    if not others or not first.alive.any():
        return None
    cosines = np.stack([match_dictionaries(first, other).cosine[first.alive] for other in others])
    return Stability(
        n_seeds=len(seeds),
        matched_cosine=float(cosines.mean()),
        share_matched=float((cosines > MATCH_THRESHOLD).mean()),
        subspace_overlap=float(np.mean([compute_subspace_overlap(first, other) for other in others])),
    )


def find_representative(seeds: Sequence[TrainedSae], candidates: Sequence[int]) -> int:
    """The candidate whose latents the other seeds find again best (mean |cosine| of matched rows); ties: the first."""
    if len(seeds) < 3 or len(candidates) < 2:
        return candidates[0]
    found = []
    for i in candidates:
        others = [one for j, one in enumerate(seeds) if j != i]
        living = seeds[i].alive
        cosines = [match_dictionaries(seeds[i], other).cosine[living].mean() for other in others if living.any()]
        found.append(float(np.mean(cosines)) if cosines else 0.0)
    return candidates[int(np.argmax(found))]


def _orthonormal_span(sae: TrainedSae) -> Float[np.ndarray, "d r"]:
    rows = sae.dictionary[sae.alive].astype(np.float64)
    _, values, basis = np.linalg.svd(rows, full_matrices=False)
    return np.asarray(basis[values > 1e-6 * values.max(initial=0.0)].T)
