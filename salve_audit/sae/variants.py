"""The variants of autoencoder: start, loss, training and fold of each, in one record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from salve_audit.errors import UsageError
from salve_audit.sae import variant_names as names
from salve_audit.sae.activation import LINEAR, Activation
from salve_audit.sae.batchtopk import (
    batchtopk_loss,
    batchtopk_parameters,
    fold_batchtopk,
    matryoshka_loss,
    matryoshka_parameters,
)
from salve_audit.sae.losses import canonical_l1_loss, raw_l1_loss
from salve_audit.sae.parameters import Parameters, rotation_parameters, xavier_parameters
from salve_audit.sae.rectified import (
    fold_gated,
    fold_jumprelu,
    fold_relu,
    gated_loss,
    gated_parameters,
    jumprelu_loss,
    jumprelu_parameters,
    relu_l1_loss,
    unit_parameters,
)
from salve_audit.sae.topk import fold_signed_topk, fold_topk, signed_topk_loss, topk_loss, topk_parameters
from salve_audit.sae.training import Effort, Objective, Recipe, fifths


@dataclass(frozen=True)
class Variant:
    """One kind of autoencoder.

    Attributes:
        name: one of `variant_names.VARIANT_NAMES`, as in ``--sae``.
        initialise: (acts, n_latents, one generator per seed) -> parameters.
        loss: (parameters, acts, λ/m or k) -> one value per seed.
        recipe: (number of samples, multiply-adds of each in a step of all seeds) -> how to train it.
        brief_recipe: the same for a point of the sparsity path and for the stretches before the full training, after
            each of which duplicates are merged; None: there is neither.
        merges_duplicates: parallel latents become one after training; only right for codes linear in the activations.
        normalised: trains on activations with mean removed and one global scale (folded back afterwards).
        default_sparsity: λ or k where it is not searched.
        n_seeds: autoencoders trained for the stability estimate unless told otherwise.
        fold: (parameters of one problem, λ or k) -> the same with a plain encoder and decoder, and the activation.
        counted: the sparsity is k, the number of codes kept, not λ.
        settles_anew: latents that a penalty silenced stay silent when it falls: denser points are trained from scratch.
    """

    name: str
    initialise: Callable[[Tensor, int, Sequence[torch.Generator]], Parameters]
    loss: Callable[[Parameters, Tensor, float], Tensor]
    recipe: Callable[[int, float], Recipe]
    brief_recipe: Callable[[int, float], Recipe] | None
    merges_duplicates: bool = False
    normalised: bool = True
    default_sparsity: float | None = None
    n_seeds: int = 5
    fold: Callable[[Parameters, float], tuple[Parameters, Activation]] = lambda parameters, _: (parameters, LINEAR)
    counted: bool = False
    settles_anew: bool = False

    def objective(self, sparsity: float, n_latents: int, share: float = 1.0) -> Objective:
        """The loss at one λ or k, ready for `train`.

        Args:
            sparsity: λ or k.
            n_latents: those asked for, dropped ones included.
            share: of the activations' coordinates that training sees; λ is that of the mean over all of them.
        """
        weight = sparsity if self.counted else sparsity / n_latents / share
        return lambda parameters, acts: self.loss(parameters, acts, weight)


# In principal coordinates (see `subspace`) few large batches do: (steps, samples, rate, share of the work, least steps)
LINEAR_FULL, LINEAR_BRIEF = Effort(400, 512, 2e-2, 0.3, 60), Effort(60, 512, 2e-2, 0.015, 20)
COUNTED_FULL, COUNTED_BRIEF = Effort(300, 512, 1.5e-2, 0.3, 60), Effort(60, 512, 1.5e-2, 0.015, 30)
PENALISED_FULL, PENALISED_BRIEF = Effort(300, 512, 3e-2, 0.3, 60), Effort(60, 512, 3e-2, 0.015, 30)


def _paper_recipe(n: int, work: float) -> Recipe:
    """Batch 32, for transformers 16: pass it (docs/method.md §1). Adam's defaults otherwise."""
    return Recipe(epochs=1000, batch_size=32, learning_rate=1e-3, betas=(0.9, 0.999), schedule=fifths)


_LINEAR_L1 = Variant(
    name=names.LINEAR_L1,
    merges_duplicates=True,
    initialise=rotation_parameters,
    loss=canonical_l1_loss,
    recipe=LINEAR_FULL.recipe,
    brief_recipe=LINEAR_BRIEF.recipe,
)
_TOPK = Variant(
    name=names.TOPK,
    initialise=topk_parameters,
    loss=topk_loss,
    recipe=COUNTED_FULL.recipe,
    brief_recipe=COUNTED_BRIEF.recipe,
    fold=fold_topk,
    counted=True,
)
VARIANTS: Mapping[str, Variant] = {
    names.LINEAR_L1: _LINEAR_L1,
    names.RELU_L1: Variant(
        name=names.RELU_L1,
        initialise=unit_parameters,
        loss=relu_l1_loss,
        recipe=PENALISED_FULL.recipe,
        brief_recipe=PENALISED_BRIEF.recipe,
        fold=fold_relu,
        settles_anew=True,
    ),
    names.TOPK: _TOPK,
    names.BATCHTOPK: Variant(
        name=names.BATCHTOPK,
        initialise=batchtopk_parameters,
        loss=batchtopk_loss,
        recipe=COUNTED_FULL.recipe,
        brief_recipe=COUNTED_BRIEF.recipe,
        fold=fold_batchtopk,
        counted=True,
    ),
    names.MATRYOSHKA: Variant(
        name=names.MATRYOSHKA,
        initialise=matryoshka_parameters,
        loss=matryoshka_loss,
        recipe=COUNTED_FULL.recipe,
        brief_recipe=COUNTED_BRIEF.recipe,
        fold=fold_batchtopk,
        counted=True,
    ),
    names.GATED: Variant(
        name=names.GATED,
        initialise=gated_parameters,
        loss=gated_loss,
        recipe=PENALISED_FULL.recipe,
        brief_recipe=PENALISED_BRIEF.recipe,
        fold=fold_gated,
        settles_anew=True,
    ),
    names.JUMPRELU: Variant(
        name=names.JUMPRELU,
        initialise=jumprelu_parameters,
        loss=jumprelu_loss,
        recipe=PENALISED_FULL.recipe,
        brief_recipe=PENALISED_BRIEF.recipe,
        fold=fold_jumprelu,
        settles_anew=True,
    ),
    # The paper trains for minutes on one λ, which its text (as far as it could be looked up) does not give.
    names.PAPER: Variant(
        name=names.PAPER,
        normalised=False,
        initialise=xavier_parameters,
        loss=raw_l1_loss,
        recipe=_paper_recipe,
        brief_recipe=None,
        default_sparsity=1e-3,
        n_seeds=1,
    ),
    names.SIGNED_TOPK: replace(_TOPK, name=names.SIGNED_TOPK, loss=signed_topk_loss, fold=fold_signed_topk),
    # `linear-l1` on what the known concepts leave over: see `supervised`
    names.SUPERVISED: replace(_LINEAR_L1, name=names.SUPERVISED),
}


def find_variant(name: str) -> Variant:
    """The variant of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in VARIANTS:
        raise UsageError("sae", f"{name!r} is not one of {', '.join(VARIANTS)}")
    return VARIANTS[name]
