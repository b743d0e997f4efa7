"""The autoencoder, its path and its stability."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SaePoint:
    """One trained autoencoder on the sparsity path, measured on the validation part of the fit split."""

    variant: str
    n_latents: int
    sparsity: float  # lambda or k
    r2: float
    l0: float
    n_dead: int
    accuracy: float  # with reconstructed activations
    accuracy_kept: float  # the same over the original accuracy
    logit_kl: float
    mean_abs_code: float
    matched_cosine: float | None  # mean |cosine| of its latents and those other seeds find; None: no other seeds
    full: bool  # trained in full with all seeds; else one seed, briefly, on the way
    chosen: bool
    components: int | None = None  # leading components within which all of this is measured; None: everything


@dataclass(frozen=True)
class Stability:
    """Agreement of the dictionary over autoencoder seeds (docs/method.md §1)."""

    n_seeds: int
    matched_cosine: float  # mean |cosine| of Hungarian-matched dictionary rows
    share_matched: float  # share of matched rows with |cosine| > 0.7
    subspace_overlap: float


@dataclass(frozen=True)
class SaeFidelity:
    """Accuracy and divergence of reconstructed activations on one set of samples."""

    r2: float
    accuracy_original: float
    accuracy_reconstructed: float
    logit_kl: float


@dataclass(frozen=True)
class SaeInfo:
    """The chosen autoencoder, every number measured on the held-out part of the fit split."""

    variant: str
    n_latents: int
    sparsity: float
    r2: float
    l0: float
    n_dead: int
    accuracy_original: float
    accuracy_reconstructed: float
    logit_kl: float
    satisfied: bool  # does the chosen point keep >= 99 % of accuracy at R2 >= least_r2?
    stability: Stability | None
    frontier: tuple[SaePoint, ...]
    on_audit: SaeFidelity | None = None  # the audit split, which chose nothing; the fields above: held-out fit part
    least_r2: float = 0.9  # the goal for r2: less where too few samples let less be learnt
    components: int | None = None  # leading principal components that it was trained in; None: all coordinates
    cut_short: tuple[str, ...] = ()  # what the search left out because --sae-budget ended it
    concepts: tuple[str, ...] = ()  # known concepts, which are the first latents in this order (variant supervised)
