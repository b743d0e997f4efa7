"""ROME on the final layer: rewrite what one key activation maps to, with a rank-one update.

The key q is a representative sample's activation; its target logits y* are the original ones with the class at −10.

=========== ==========================================================================================
rome        ``ΔW = (y* − (W q + b)) qᵀ / (qᵀ q)``
rome-paper  ``ΔW = (y* − (W q + b + b)) qᵀ / (qᵀ q)``: the paper's pseudocode adds the bias to logits that
            already hold it. The key's logits then miss y* by −b
rome-cov    ``ΔW = (y* − (W q + b)) (C⁻¹q)ᵀ / (qᵀ C⁻¹ q)``, C = E[a aᵀ] of the fit split (shrunk towards a
            multiple of I, see `FitStatistics.shrinkage`): the update that disturbs typical activations least
=========== ==========================================================================================

C holds the samples of the class itself, so C⁻¹q also avoids what they have in common: it may hardly reach them, or with
the wrong sign (on a ResNet-18 and a ViT for CIFAR-10 it projects 40 % and 27 % of the class's samples to below 0, the
plain key none and 0.4 %), and such samples no strength suppresses. Where rome-cov misses its target, this is why.

The strength t scales ΔW; at t = 1 the key's logits are y*. Other samples of the class project less onto the key than
the key itself and may need more.

Source: SALVE, arXiv 2512.15938, A.7; ROME, arXiv 2202.05262, for the covariance; docs/method.md §5.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from salve_audit.interventions.affine import Intervention, RankOneEdit, rank_one_intervention
from salve_audit.interventions.context import EditContext
from salve_audit.interventions.registry import ROME, ROME_COV, ROME_PAPER

TARGET_LOGIT = -10.0


def rome(context: EditContext) -> Intervention:
    """The update that puts the key's class logit at −10 and leaves its other logits alone."""
    return _rank_one_update(ROME.key, context, _residual(context), context.key)


def rome_paper(context: EditContext) -> Intervention:
    """The update of `rome` with the bias counted twice, as the paper's pseudocode has it."""
    return _rank_one_update(ROME_PAPER.key, context, _residual(context) - context.head.bias, context.key)


def rome_cov(context: EditContext) -> Intervention:
    """The update of `rome` along C⁻¹q, as in the original ROME."""
    return _rank_one_update(ROME_COV.key, context, _residual(context), context.fit.solve_second_moment(context.key))


def choose_key(acts: Float[np.ndarray, "n d"], members: Int[np.ndarray, " n_class"]) -> Float[np.ndarray, " d"]:
    """The activation, out of the samples `members` of a class, that lies closest to their mean; (d,) float64."""
    assert len(members) > 0, "a class without fit samples has no key"
    own = np.asarray(acts[members], dtype=np.float64)  # (n_class, d)
    return own[np.argmin(((own - own.mean(axis=0)) ** 2).sum(axis=1))]


def draw_keys(
    acts: Float[np.ndarray, "n d"],
    members: Int[np.ndarray, " n_class"],
    n_keys: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "n_keys d"]:
    """Activations of random distinct samples out of `members`, as many as there are up to `n_keys`; float64."""
    chosen = rng.choice(members, size=min(n_keys, len(members)), replace=False)
    return np.asarray(acts[chosen], dtype=np.float64)


def _residual(context: EditContext) -> Float[np.ndarray, " k"]:
    """y* − (W q + b), (k,): zero but for the class."""
    index = context.class_index
    residual = np.zeros_like(context.head.bias)
    residual[index] = TARGET_LOGIT - (context.head.weight[index] @ context.key + context.head.bias[index])
    return residual


def _rank_one_update(
    method: str, context: EditContext, residual: Float[np.ndarray, " k"], along: Float[np.ndarray, " d"]
) -> Intervention:
    reach = float(context.key @ along)  # how far a step along this direction moves the key
    right = along / reach if reach > 0 else np.zeros_like(along)
    edit = RankOneEdit(left=residual, right=right, bias=np.zeros_like(residual))
    return rank_one_intervention(method, context.head, edit)
