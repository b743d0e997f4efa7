"""Quality of an autoencoder: error of the activations, and of the head's output on their reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import log_softmax

from salve_audit.errors import DataError
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.sae.models import TrainedSae
from salve_audit.sae.parameters import DEAD_SHARE

LEAST_R2 = 0.9  # docs/method.md §1.4
ACTIVE_SHARE = 0.01  # of a latent's largest |code|: below it a signed code counts as zero (docs/method.md §1)


@dataclass(frozen=True)
class Quality:
    """Measured on one set of samples.

    Attributes:
        r2: explained variance, centred on the set's own mean.
        l0: mean number of active latents a sample; dead ones are never active.
        n_dead: latents whose |code| never exceeds 1 % of the largest latent's largest.
        accuracy_original, accuracy_reconstructed: of the head on the activations and on their reconstruction.
        accuracy_kept: the second over the first (1 where the first is 0).
        logit_kl: mean KL(original || reconstructed) of the softmax outputs, nats.
        mean_abs_code: mean |z| in canonical form, model units.
        least_r2: the goal for `r2`.
    """

    r2: float
    l0: float
    n_dead: int
    accuracy_original: float
    accuracy_reconstructed: float
    accuracy_kept: float
    logit_kl: float
    mean_abs_code: float
    least_r2: float = LEAST_R2


def measure_quality(
    sae: TrainedSae, acts: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], head: LinearHead
) -> Quality:
    """All metrics on one set of samples.

    Raises:
        DataError: the samples have no variance, so that R² is undefined.
    """
    codes = sae.encode(acts)
    recon = sae.decode(codes)
    original, reconstructed = _logits(acts, head), _logits(recon, head)
    before = float((original.argmax(axis=1) == labels).mean())
    after = float((reconstructed.argmax(axis=1) == labels).mean())
    l0, n_dead = count_active(codes)
    return Quality(
        r2=explained_variance(acts, recon),
        l0=l0,
        n_dead=n_dead,
        accuracy_original=before,
        accuracy_reconstructed=after,
        accuracy_kept=after / before if before > 0 else 1.0,
        logit_kl=mean_kl(original, reconstructed),
        mean_abs_code=float(np.abs(codes).mean(dtype=np.float64)),
    )


def explained_variance(acts: Float[np.ndarray, "n d"], recon: Float[np.ndarray, "n d"]) -> float:
    """R² = 1 - Σ‖a - â‖² / Σ‖a - mean a‖², over all samples and coordinates, float64.

    Raises:
        DataError: the activations are the same for every sample.
    """
    mean = acts.mean(axis=0, dtype=np.float64)
    total = float(np.square(acts - mean).sum())
    if not total > 0:
        raise DataError("activations", "they are the same for every validation sample, R² is undefined")
    return 1 - float(np.square(np.subtract(acts, recon, dtype=np.float64)).sum()) / total


def count_active(codes: Float[np.ndarray, "n m"]) -> tuple[float, int]:
    """(L0, number of dead latents) of signed codes; see `Quality`."""
    magnitude = np.abs(codes)
    largest = magnitude.max(axis=0)
    dead = largest <= DEAD_SHARE * largest.max()
    active = (magnitude > ACTIVE_SHARE * largest) & ~dead
    return float(active.sum(axis=1).mean()), int(dead.sum())


def mean_kl(original: Float[np.ndarray, "n k"], reconstructed: Float[np.ndarray, "n k"]) -> float:
    """Mean KL(softmax(original) || softmax(reconstructed)) in nats."""
    p, q = log_softmax(original, axis=1), log_softmax(reconstructed, axis=1)
    return max(0.0, float((np.exp(p) * (p - q)).sum(axis=1).mean()))


def _logits(acts: Float[np.ndarray, "n d"], head: LinearHead) -> Float[np.ndarray, "n k"]:
    return acts.astype(np.float64) @ head.weight.astype(np.float64).T + head.bias
