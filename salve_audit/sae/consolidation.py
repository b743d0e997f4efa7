"""Consolidation between two stretches of training: duplicates become one latent, dead latents are dropped.

The L1 norm does not mind a code split over two latents of one direction (|z₁| + |z₂| = |z₁ + z₂| where signs agree), so
training leaves clones behind: they blur which latent is a class's, count twice in L0, and differ from seed to seed.
For linear codes the sum of two parallel latents is one latent, exactly; further training settles what was not quite
parallel. Fewer latents also train faster.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.sae.parameters import DEAD_SHARE, Parameters, compute_code_moments, select_problem

SAME_DIRECTION = 0.95  # |cosine| from which two dictionary rows are taken for one


def consolidate(parameters: Parameters, acts: Float[Tensor, "n d"]) -> Parameters:
    """New parameters of s linear autoencoders with duplicates merged and dead latents left out.

    Every seed gets as many rows as the one with the most living latents, in order of falling energy; rows of zeros fill
    up the others. They stay zero in training: neither side of a latent has a gradient while the other is zero.

    Args:
        parameters: of s linear autoencoders, each with m latents.
        acts: (n, d) training samples as training sees them, to tell which latents live.
    """
    device = parameters["dictionary"].device
    n_seeds = parameters["dictionary"].shape[0]
    merged = [_merge_one(select_problem(parameters, i), acts) for i in range(n_seeds)]
    n_kept = max(1, max(len(rows_of_seed["encoder_bias"]) for rows_of_seed in merged))
    rows = {
        name: torch.stack([torch.from_numpy(_pad(rows_of_seed[name], n_kept)) for rows_of_seed in merged]).to(device)
        for name in ("encoder_weight", "encoder_bias", "dictionary")
    }
    return {**parameters, **rows}


def _merge_one(parameters: Parameters, acts: Tensor) -> dict[str, np.ndarray]:
    """Rows that are left of one autoencoder, energetic ones first, each of unit norm in the dictionary."""
    moments = compute_code_moments(parameters, acts)
    trained = {name: value[0].cpu().double().numpy() for name, value in parameters.items()}
    norms = np.linalg.norm(trained["dictionary"], axis=1)
    alive = np.flatnonzero(moments.largest * norms > DEAD_SHARE * (moments.largest * norms).max())
    order = alive[np.argsort(-(moments.square * norms**2)[alive], kind="stable")]
    directions = trained["dictionary"][order] / norms[order, None]
    weight, bias = trained["encoder_weight"][order] * norms[order, None], trained["encoder_bias"][order] * norms[order]
    cosine = directions @ directions.T
    unique: list[int] = []
    for i in range(len(order)):
        twin = max(unique, key=lambda j: abs(cosine[i, j]), default=None)
        if twin is None or abs(cosine[i, twin]) < SAME_DIRECTION:
            unique.append(i)
            continue
        weight[twin] += cosine[i, twin] * weight[i]  # least squares: D_i is replaced by its projection on D_twin
        bias[twin] += cosine[i, twin] * bias[i]
    return {"encoder_weight": weight[unique], "encoder_bias": bias[unique], "dictionary": directions[unique]}


def _pad(rows: np.ndarray, n_rows: int) -> np.ndarray:
    return np.concatenate([rows, np.zeros((n_rows - len(rows), *rows.shape[1:]))]).astype(np.float32)
