"""Batched products of training, in bfloat16 where the processor multiplies that in hardware.

Parameters, sums over samples, Adam and everything that is measured stay in float32: what is rounded are the factors
and results of single products, by 0.2 % at most, without bias, which is far below the noise of a batch. On processors
with AVX-512 BF16 or AMX a product takes a fourth of its time; small ones do not gain and stay exact.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.sae.parameters import Parameters, multiply_batch

LEAST_WORK = 2**21  # multiplications of one seed's product: below it, converting costs what multiplying saves


@functools.cache
def multiplies_bfloat16() -> bool:
    """True if this processor has instructions for products of bfloat16; without them these are several times slower.

    Read from torch, whose matrix library decides by the same flags.
    """
    queries = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(bool(ask()) for ask in queries if ask is not None)


def is_rounded(left: Tensor, right: Tensor) -> bool:
    """True if ``left @ right`` of these shapes and types is taken in bfloat16, whatever the number of seeds."""
    work = left.shape[-2] * left.shape[-1] * right.shape[-1]
    exact = left.dtype != torch.float32 or left.device.type != "cpu" or work < LEAST_WORK
    return not exact and multiplies_bfloat16()


def shorten(value: Tensor, *, rounded: bool) -> Tensor:
    """A factor as the product takes it."""
    return value.bfloat16() if rounded else value


def multiply(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right``, (s, n, i) times (s, i, j), float32 with a gradient for both."""
    if not is_rounded(left, right):
        return multiply_batch(left, right)
    product: Tensor = _Rounded.apply(left, right)
    return product


class _Rounded(torch.autograd.Function):
    """Product and gradients in bfloat16, given and taken in float32."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        short = left.bfloat16(), right.bfloat16()
        ctx.save_for_backward(*short)
        return multiply_batch(*short).float()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, Tensor | None]:
        left, right = ctx.saved_tensors
        short = upstream[0].bfloat16()
        wanted = ctx.needs_input_grad
        from_left = multiply_batch(short, right.mT).float() if wanted[0] else None
        return from_left, multiply_batch(left.mT, short).float() if wanted[1] else None


def encode_batch(parameters: Parameters, acts: Float[Tensor, "s n d"]) -> Float[Tensor, "s n m"]:
    """`parameters.encode_linear`, for training."""
    return multiply(acts, parameters["encoder_weight"].mT) + parameters["encoder_bias"][:, None]


def decode_batch(parameters: Parameters, codes: Float[Tensor, "s n m"]) -> Float[Tensor, "s n d"]:
    """`parameters.decode`, for training."""
    return multiply(codes, parameters["dictionary"]) + parameters["decoder_bias"][:, None]
