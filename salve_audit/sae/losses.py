"""Losses as pure functions of one signature: (parameters, acts, weight) -> one value per seed.

Shapes: acts (s, n, d), result (s,). `weight` is λ/m, so that ``weight · Σ|z|`` over latents is ``λ · mean|z|`` even
after latents were dropped. The sum over seeds is what is differentiated: the seeds share no parameter, so each gets its
own gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.sae.parameters import Parameters, decode, encode_linear, multiply_batch
from salve_audit.sae.products import is_rounded, shorten


def raw_l1_loss(parameters: Parameters, acts: Float[Tensor, "s n d"], weight: float) -> Float[Tensor, " s"]:
    """``mse(recon, a) + λ mean|z|`` of linear codes, as the paper has it: rewards z -> tz, D -> D/t without end."""
    codes = encode_linear(parameters, acts)
    error = mean_square(decode(parameters, codes) - acts)
    return error + weight * codes.abs().mean(1).sum(-1)


def canonical_l1_loss(parameters: Parameters, acts: Float[Tensor, "s n d"], weight: float) -> Float[Tensor, " s"]:
    """The L1 loss of codes in canonical form, |z_l|·‖D_l‖: no t changes it, so no row is projected after a step.

    The gradient is written out: a third of the passes over (s, n, d) and (s, m, d) that autograd makes are saved.
    """
    order = ("encoder_weight", "encoder_bias", "dictionary", "decoder_bias")
    loss: Tensor = _CanonicalL1.apply(acts, weight, *(parameters[name] for name in order))
    return loss


def mean_square(error: Float[Tensor, "s ..."]) -> Float[Tensor, " s"]:
    """Mean square of every seed's values, with a gradient in a single pass."""
    mean: Tensor = _MeanSquare.apply(error)
    return mean


class _MeanSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, error: Tensor) -> Tensor:
        ctx.save_for_backward(error)
        return torch.linalg.vector_norm(error.flatten(1), dim=1).square() / error[0].numel()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        (error,) = ctx.saved_tensors
        factor = upstream[0] * (2 / error[0].numel())
        return error * factor.view(-1, *[1] * (error.dim() - 1))


class _CanonicalL1(torch.autograd.Function):
    """Value and gradient of `canonical_l1_loss`; no gradient for the activations."""

    @staticmethod
    def forward(ctx: Any, acts: Tensor, weight: float, *parameters: Tensor) -> Tensor:
        encoder_weight, encoder_bias, dictionary, decoder_bias = parameters
        rounded = is_rounded(acts, encoder_weight.mT)
        short_acts, short_rows = shorten(acts, rounded=rounded), shorten(dictionary, rounded=rounded)
        short_bias, short_weight = shorten(encoder_bias, rounded=rounded), shorten(encoder_weight, rounded=rounded)
        codes = multiply_batch(short_acts, short_weight.mT, short_bias[:, None])
        error = multiply_batch(codes, short_rows).to(acts.dtype).add_(decoder_bias[:, None]).sub_(acts)
        norms, magnitude = dictionary.norm(dim=-1), codes.abs().to(acts.dtype).mean(1)
        ctx.save_for_backward(short_acts, short_rows, dictionary, codes, error, norms, magnitude)
        ctx.weight = weight
        return mean_square(error) + weight * (magnitude * norms).sum(-1)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        acts, rows, dictionary, codes, error, norms, magnitude = ctx.saved_tensors
        n, d = acts.shape[1:]
        upstream_cube = upstream[0][:, None, None]
        error = error * (2 / (n * d) * upstream_cube)
        short_error = error.to(rows.dtype)
        weight = ctx.weight * upstream_cube
        from_codes = (
            multiply_batch(short_error, rows.mT).to(norms.dtype).addcmul_(codes.sign(), norms[:, None] * (weight / n))
        )
        # ∂‖D_l‖/∂D_l = D_l/‖D_l‖, taken as 0 for the rows of zeros that fill up a seed
        along_rows = weight * (magnitude / norms.clamp_min(torch.finfo(norms.dtype).tiny))[:, :, None]
        from_rows = multiply_batch(codes.mT, short_error).to(norms.dtype).addcmul_(dictionary, along_rows)
        from_weight = multiply_batch(from_codes.to(acts.dtype).mT, acts).to(norms.dtype)
        return None, None, from_weight, from_codes.sum(1), from_rows, error.sum(1)
