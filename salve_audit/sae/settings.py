"""Settings of the autoencoder that a caller may choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from salve_audit.sae.kept import TrainingStore
    from salve_audit.sae.subspace import Subspace
    from salve_audit.tasks import TaskMap

LEAST_LATENTS = 64
SPANNED = 0.95  # of the held-out variance: what components reach, as many latents can reconstruct


@dataclass(frozen=True)
class SaeSettings:
    """Settings of the autoencoder; None takes the variant's own value.

    Attributes:
        variant: its name in `variants.VARIANTS`, or ``auto``: chosen (see `auto`).
        n_latents: m; None: `spanning_latents`, or `default_latents` where nothing is projected.
        seed: of the held-out part, the initial weights and the order of samples; seed i of the stability uses seed + i.
        device: where to train.
        n_seeds: autoencoders trained side by side for the stability; 1: none is estimated.
        anew: for each seed but the first, an autoencoder is also chosen as an audit with that seed would (see `anew`).
        sparsity: λ, or k for the variants that keep so many codes; None: auto-training (`paper`: 1e-3).
        epochs, batch_size, learning_rate: of the recipe; the paper takes batches of 32 (ResNet) or 16 (ViT).
        memory_limit: bytes that training samples may take, beyond which they are read from their file while training;
            None: 1 GiB or a quarter of what is free (see `streaming`).
        budget: seconds after which the search ends with what it has; None: no limit.
        progress: called with the number of trainings done and of those expected, after each.
        kept: trainings of an ended search with the same activations; None: none are kept.
        tasks: trains each seed as a task of its own, where the samples are in memory; None: all seeds are trained as
            one.
    """

    variant: str = "auto"
    n_latents: int | None = None
    seed: int = 0
    device: str | torch.device = "cpu"
    n_seeds: int | None = None
    anew: bool = True
    sparsity: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    memory_limit: int | None = None
    budget: float | None = None
    progress: Callable[[int, int], None] | None = None
    kept: TrainingStore | None = None
    tasks: TaskMap | None = None


def default_latents(d: int, n_classes: int) -> int:
    """Half as many latents as coordinates, but at least 64 and at least two for every class."""
    return max(d // 2, LEAST_LATENTS, 2 * n_classes)


def spanning_latents(subspace: Subspace, n_classes: int) -> int:
    """As many latents as components explain 95 % of the held-out variance, but at least 64 and two for every class."""
    return max(subspace.count(SPANNED), LEAST_LATENTS, 2 * n_classes)
