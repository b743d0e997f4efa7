"""Losses whose codes are zero below a threshold and penalised above it, all in canonical form (unit dictionary rows).

Shapes: acts (s, n, d), result (s,); `weight` is λ/m as in `losses`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.sae.activation import Activation
from salve_audit.sae.losses import mean_square
from salve_audit.sae.parameters import Parameters, rotation_parameters, unit_rows
from salve_audit.sae.products import decode_batch, encode_batch, multiply


def unit_parameters(acts: Float[Tensor, "n d"], n_latents: int, generators: Sequence[torch.Generator]) -> Parameters:
    """A random rotation (see `rotation_parameters`) with unit rows, encoder and decoder tied."""
    parameters = unit_rows(rotation_parameters(acts, n_latents, generators))
    return {**parameters, "encoder_weight": parameters["dictionary"].clone()}


def relu_l1_loss(parameters: Parameters, acts: Float[Tensor, "s n d"], weight: float) -> Float[Tensor, " s"]:
    """``mse(recon, a) + λ mean z`` with z = max(0, h)."""
    unit = unit_rows(parameters)
    codes = encode_batch(unit, acts).relu()
    error = mean_square(decode_batch(unit, codes) - acts)
    return error + weight * codes.mean(1).sum(-1)


def fold_relu(parameters: Parameters, _: float) -> tuple[Parameters, Activation]:
    """Unit rows."""
    return unit_rows(parameters), Activation("relu")


def gated_parameters(acts: Float[Tensor, "n d"], n_latents: int, generators: Sequence[torch.Generator]) -> Parameters:
    """Fresh parameters as relu-l1 has them, with gates that are open where the magnitude is positive."""
    zeros = acts.new_zeros(len(generators), n_latents)
    return {**unit_parameters(acts, n_latents, generators), "gate_bias": zeros, "log_magnitude": zeros.clone()}


def gated_loss(parameters: Parameters, acts: Float[Tensor, "s n d"], weight: float) -> Float[Tensor, " s"]:
    """Gate and magnitude apart (arXiv 2404.16014), so that the penalty on the gate does not shrink the codes.

    π = W x + b_gate, z = 1[π > 0]·max(0, eʳ W x + b_mag); loss = mse(recon, a) + λ mean max(0, π) + mse of max(0, π)
    decoded by a frozen copy of the decoder, through which alone the gate learns.
    """
    unit = unit_rows(parameters)
    shared = multiply(acts, unit["encoder_weight"].mT)
    gate = shared + unit["gate_bias"][:, None]
    magnitude = (shared * unit["log_magnitude"].exp()[:, None] + unit["encoder_bias"][:, None]).relu()
    codes, opening = magnitude * (gate > 0), gate.relu()
    frozen = {name: unit[name].detach() for name in ("dictionary", "decoder_bias")}
    errors = [decode_batch(unit, codes) - acts, decode_batch(frozen, opening) - acts]
    return sum(mean_square(error) for error in errors) + weight * opening.mean(1).sum(-1)


def fold_gated(parameters: Parameters, _: float) -> tuple[Parameters, Activation]:
    """Gate and magnitude share their weights, so that π > 0 is h > b_mag - eʳ b_gate of the magnitude's own h."""
    growth = parameters["log_magnitude"].exp()
    plain = {**unit_rows(parameters), "encoder_weight": parameters["encoder_weight"] * growth[..., None]}
    return plain, _thresholds(parameters["encoder_bias"] - growth * parameters["gate_bias"])


BANDWIDTH = 0.5  # of the kernel that stands in for the step's derivative; activations have a root mean square of 1
FIRST_THRESHOLD = 0.25


def jumprelu_parameters(
    acts: Float[Tensor, "n d"], n_latents: int, generators: Sequence[torch.Generator]
) -> Parameters:
    """Fresh parameters as relu-l1 has them, with a threshold θ for every latent: θ itself, not its logarithm."""
    threshold = acts.new_full((len(generators), n_latents), FIRST_THRESHOLD)
    return {**unit_parameters(acts, n_latents, generators), "threshold": threshold}


def jumprelu_loss(parameters: Parameters, acts: Float[Tensor, "s n d"], weight: float) -> Float[Tensor, " s"]:
    """``mse(recon, a) + λ/m · L0`` with z = h where h > θ, else 0 (arXiv 2407.14435)."""
    unit = unit_rows(parameters)
    threshold = parameters["threshold"]
    positive = threshold + (threshold.clamp_min(0) - threshold).detach()  # below 0, θ acts as 0 but is still moved
    codes, fires = _Jump.apply(encode_batch(unit, acts), positive)
    error = mean_square(decode_batch(unit, codes) - acts)
    return error + weight * fires.mean(1).sum(-1)


def fold_jumprelu(parameters: Parameters, _: float) -> tuple[Parameters, Activation]:
    """Unit rows and the thresholds."""
    return unit_rows(parameters), _thresholds(parameters["threshold"])


def _thresholds(threshold: Float[Tensor, "1 m"]) -> Activation:
    return Activation("threshold", threshold=threshold[0].detach().clamp_min(0).cpu().numpy().copy())


class _Jump(torch.autograd.Function):
    """(h, θ) -> (h·1[h > θ], 1[h > θ]); a rectangle kernel K stands in for the derivative of the step.

    ∂z/∂θ = -θ/ε K((h - θ)/ε), ∂1/∂θ = -1/ε K((h - θ)/ε), ∂z/∂h = 1[h > θ], ∂1/∂h = 0.
    """

    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        fires = (pre > threshold[:, None]).to(pre.dtype)
        ctx.save_for_backward(pre, threshold, fires)
        return pre * fires, fires

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor]:
        pre, threshold, fires = ctx.saved_tensors
        from_codes, from_fires = upstream
        near = ((pre - threshold[:, None]).abs() < BANDWIDTH / 2).to(pre.dtype) / BANDWIDTH
        along = (from_codes * threshold[:, None] + from_fires) * near
        return from_codes * fires, -along.sum(1)
