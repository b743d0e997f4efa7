"""What makes a variant: how it starts, what it minimises and how it is optimised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from salve_audit.errors import UsageError
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
        name: as in ``--sae``.
        initialise: (acts, n_latents, one generator per seed) -> parameters.
        loss: (parameters, acts, λ/m or k) -> one value per seed.
        recipe: number of samples -> how to train it.
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
    recipe: Callable[[int], Recipe]
    brief_recipe: Callable[[int], Recipe] | None
    merges_duplicates: bool = False
    normalised: bool = True
    default_sparsity: float | None = None
    n_seeds: int = 5
    fold: Callable[[Parameters, float], tuple[Parameters, Activation]] = lambda parameters, _: (parameters, LINEAR)
    counted: bool = False
    settles_anew: bool = False

    def objective(self, sparsity: float, n_latents: int) -> Objective:
        """The loss at one λ or k, ready for `train`; `n_latents` are those asked for, dropped ones included."""
        weight = sparsity if self.counted else sparsity / n_latents
        return lambda parameters, acts: self.loss(parameters, acts, weight)


# Linear codes settle slowly: their penalty leaves nothing at exactly zero. The others take larger batches and rates to
# the same R² in fewer steps.
LINEAR_FULL, LINEAR_BRIEF = Effort(1300, 128, 6e-3), Effort(200, 128, 6e-3)
COUNTED_FULL, COUNTED_BRIEF = Effort(800, 256, 1e-2, wide=128), Effort(150, 256, 1.2e-2, wide=128)
PENALISED_FULL, PENALISED_BRIEF = Effort(540, 256, 1e-2), Effort(135, 256, 1e-2)


def _paper_recipe(n: int) -> Recipe:
    """METHOD §1; batch 32 for convolutional networks (16 for transformers: pass it). Adam's own defaults otherwise."""
    return Recipe(epochs=1000, batch_size=32, learning_rate=1e-3, betas=(0.9, 0.999), schedule=fifths)


VARIANTS: Mapping[str, Variant] = {
    "linear-l1": Variant(
        name="linear-l1",
        merges_duplicates=True,
        initialise=rotation_parameters,
        loss=canonical_l1_loss,
        recipe=LINEAR_FULL.recipe,
        brief_recipe=LINEAR_BRIEF.recipe,
    ),
    "relu-l1": Variant(
        name="relu-l1",
        initialise=unit_parameters,
        loss=relu_l1_loss,
        recipe=PENALISED_FULL.recipe,
        brief_recipe=PENALISED_BRIEF.recipe,
        fold=fold_relu,
        settles_anew=True,
    ),
    "topk": Variant(
        name="topk",
        initialise=topk_parameters,
        loss=topk_loss,
        recipe=COUNTED_FULL.recipe,
        brief_recipe=COUNTED_BRIEF.recipe,
        fold=fold_topk,
        counted=True,
    ),
    "batchtopk": Variant(
        name="batchtopk",
        initialise=batchtopk_parameters,
        loss=batchtopk_loss,
        recipe=COUNTED_FULL.recipe,
        brief_recipe=COUNTED_BRIEF.recipe,
        fold=fold_batchtopk,
        counted=True,
    ),
    "matryoshka": Variant(
        name="matryoshka",
        initialise=matryoshka_parameters,
        loss=matryoshka_loss,
        recipe=COUNTED_FULL.recipe,
        brief_recipe=COUNTED_BRIEF.recipe,
        fold=fold_batchtopk,
        counted=True,
    ),
    "gated": Variant(
        name="gated",
        initialise=gated_parameters,
        loss=gated_loss,
        recipe=PENALISED_FULL.recipe,
        brief_recipe=PENALISED_BRIEF.recipe,
        fold=fold_gated,
        settles_anew=True,
    ),
    "jumprelu": Variant(
        name="jumprelu",
        initialise=jumprelu_parameters,
        loss=jumprelu_loss,
        recipe=PENALISED_FULL.recipe,
        brief_recipe=PENALISED_BRIEF.recipe,
        fold=fold_jumprelu,
        settles_anew=True,
    ),
    # The paper trains for minutes on one λ, which its text (as far as it could be looked up) does not give.
    "paper": Variant(
        name="paper",
        normalised=False,
        initialise=xavier_parameters,
        loss=raw_l1_loss,
        recipe=_paper_recipe,
        brief_recipe=None,
        default_sparsity=1e-3,
        n_seeds=1,
    ),
}

VARIANTS = {
    **VARIANTS,
    "signed-topk": replace(VARIANTS["topk"], name="signed-topk", loss=signed_topk_loss, fold=fold_signed_topk),
    # `linear-l1` on what the known concepts leave over: see `supervised`
    "supervised": replace(VARIANTS["linear-l1"], name="supervised"),
}


def find_variant(name: str) -> Variant:
    """The variant of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in VARIANTS:
        raise UsageError("sae", f"{name!r} is not one of {', '.join(VARIANTS)}")
    return VARIANTS[name]
