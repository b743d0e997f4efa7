"""Quality of an autoencoder: error of the activations, and of the head's output on their reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import log_softmax

from salve_audit.errors import DataError
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.mapped_pages import release_pages
from salve_audit.sae.models import CHUNK_ROWS, TrainedSae
from salve_audit.sae.parameters import DEAD_SHARE

LEAST_R2 = 0.9  # docs/method.md §1.4
MOST_CODES = 2**26  # held at once, 256 MB: of more samples each block is encoded twice
SAME = "they are the same for every validation sample, R² is undefined"
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
    n, blocks = len(acts), [slice(start, start + CHUNK_ROWS) for start in range(0, len(acts), CHUNK_ROWS)]
    keeps = n * sae.n_latents <= MOST_CODES
    encoded: dict[int, np.ndarray] = {}
    mean = sum((acts[rows].sum(axis=0, dtype=np.float64) for rows in blocks), np.zeros(sae.d)) / n
    largest, sums = np.zeros(sae.n_latents, np.float32), _Sums()
    for rows in blocks:
        block = np.asarray(acts[rows])
        codes = sae.encode(block)
        if keeps:
            encoded[rows.start] = codes
        np.maximum(largest, np.abs(codes).max(axis=0), out=largest)
        sums.add(block - mean, (block, sae.decode(codes)), labels[rows], head)
        sums.codes += float(np.abs(codes).sum(dtype=np.float64))
        release_pages(acts)
    if not sums.total > 0:
        raise DataError("activations", SAME)
    n_active, n_dead = 0, 0
    for rows in blocks:
        active, n_dead = find_active(encoded[rows.start] if keeps else sae.encode(acts[rows]), largest)
        n_active += int(active.sum())
    before, after = sums.right / n, sums.right_after / n
    return Quality(
        r2=1 - sums.error / sums.total,
        l0=n_active / n,
        n_dead=n_dead,
        accuracy_original=before,
        accuracy_reconstructed=after,
        accuracy_kept=after / before if before > 0 else 1.0,
        logit_kl=sums.kl / n,
        mean_abs_code=sums.codes / (n * sae.n_latents),
    )


@dataclass
class _Sums:
    """Sums over blocks of samples."""

    total: float = 0.0
    error: float = 0.0
    right: int = 0
    right_after: int = 0
    kl: float = 0.0
    codes: float = 0.0

    def add(
        self,
        centred: Float[np.ndarray, "b d"],
        pair: tuple[Float[np.ndarray, "b d"], Float[np.ndarray, "b d"]],
        labels: Int[np.ndarray, " b"],
        head: LinearHead,
    ) -> None:
        """Count a block, given with its reconstruction."""
        self.total += float(np.square(centred).sum())
        self.error += float(np.square(np.subtract(pair[0], pair[1], dtype=np.float64)).sum())
        original, reconstructed = (_logits(acts, head) for acts in pair)
        self.right += int((original.argmax(axis=1) == labels).sum())
        self.right_after += int((reconstructed.argmax(axis=1) == labels).sum())
        self.kl += mean_kl(original, reconstructed) * len(labels)


def explained_variance(acts: Float[np.ndarray, "n d"], recon: Float[np.ndarray, "n d"]) -> float:
    """R² = 1 - Σ‖a - â‖² / Σ‖a - mean a‖², over all samples and coordinates, float64.

    Raises:
        DataError: the activations are the same for every sample.
    """
    mean = acts.mean(axis=0, dtype=np.float64)
    total = float(np.square(acts - mean).sum())
    if not total > 0:
        raise DataError("activations", SAME)
    return 1 - float(np.square(np.subtract(acts, recon, dtype=np.float64)).sum()) / total


def count_active(codes: Float[np.ndarray, "n m"]) -> tuple[float, int]:
    """(L0, number of dead latents) of signed codes; see `Quality`."""
    active, n_dead = find_active(codes, np.abs(codes).max(axis=0))
    return float(active.sum(axis=1).mean()), n_dead


def find_active(
    codes: Float[np.ndarray, "n m"], largest: Float[np.ndarray, " m"]
) -> tuple[Bool[np.ndarray, "n m"], int]:
    """Which codes are active, and the number of dead latents, given each latent's largest |code| over all samples."""
    dead = largest <= DEAD_SHARE * largest.max()
    return (np.abs(codes) > ACTIVE_SHARE * largest) & ~dead, int(dead.sum())


def mean_kl(original: Float[np.ndarray, "n k"], reconstructed: Float[np.ndarray, "n k"]) -> float:
    """Mean KL(softmax(original) || softmax(reconstructed)) in nats."""
    p, q = log_softmax(original, axis=1), log_softmax(reconstructed, axis=1)
    return max(0.0, float((np.exp(p) * (p - q)).sum(axis=1).mean()))


def _logits(acts: Float[np.ndarray, "n d"], head: LinearHead) -> Float[np.ndarray, "n k"]:
    return acts.astype(np.float64) @ head.weight.astype(np.float64).T + head.bias
