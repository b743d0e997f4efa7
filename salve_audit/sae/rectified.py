"""Losses whose codes are zero below a threshold and penalised above it, all in canonical form (unit dictionary rows).

Shapes: acts (s, n, d), result (s,); `weight` is λ/m as in `losses`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.sae.activation import Activation
from salve_audit.sae.parameters import Parameters, decode, encode_linear, rotation_parameters, unit_rows


def unit_parameters(acts: Float[Tensor, "n d"], n_latents: int, generators: Sequence[torch.Generator]) -> Parameters:
    """A random rotation (see `rotation_parameters`) with unit rows, encoder and decoder tied."""
    parameters = unit_rows(rotation_parameters(acts, n_latents, generators))
    return {**parameters, "encoder_weight": parameters["dictionary"].clone()}


def relu_l1_loss(parameters: Parameters, acts: Float[Tensor, "s n d"], weight: float) -> Float[Tensor, " s"]:
    """``mse(recon, a) + λ mean z`` with z = max(0, h)."""
    unit = unit_rows(parameters)
    codes = encode_linear(unit, acts).relu()
    error = (decode(unit, codes) - acts).square().mean((1, 2))
    return error + weight * codes.mean(1).sum(-1)


def fold_relu(parameters: Parameters, _: float) -> tuple[Parameters, Activation]:
    """Unit rows."""
    return unit_rows(parameters), Activation("relu")
