"""The trained parameters: tensors by name, with a seed axis in front, so that several autoencoders train as one.

Shapes: encoder_weight and dictionary (s, m, d), encoder_bias (s, m), decoder_bias (s, d); acts (s, n, d),
codes (s, n, m).
Some variants have more (a gate, thresholds), and buffers: tensors that the loss keeps up to date itself (`BUFFERS`).
Problem i of the s sees its own batches and touches nothing of the others: training them together or one by one is the
same (see `multiply_batch`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.sae.activation import LINEAR, Activation

Parameters = dict[str, Tensor]
BUFFERS = frozenset({"silent", "epoch", "cutoff", "n_steps", "group"})  # not trained: see `topk`, `batchtopk`
CHUNK_ROWS = 1024  # few enough that the passes over their codes stay in the processor's cache
SMALLEST_NORM = 1e-12
DEAD_SHARE = 0.01  # of the largest latent's largest |code|: a latent that never exceeds it carries no information


def xavier_parameters(acts: Float[Tensor, "n d"], n_latents: int, generators: Sequence[torch.Generator]) -> Parameters:
    """Xavier-uniform encoder and decoder, independent of each other; biases zero (the paper's recipe)."""
    d = acts.shape[1]
    bound = math.sqrt(6 / (n_latents + d))

    def draw() -> Tensor:
        uniform = [torch.rand(n_latents, d, generator=g, device=acts.device) for g in generators]
        return (2 * torch.stack(uniform) - 1) * bound

    return _with_biases(draw(), draw())


def rotation_parameters(
    acts: Float[Tensor, "n r"], n_latents: int, generators: Sequence[torch.Generator]
) -> Parameters:
    """A random rotation of the leading coordinates (all of them where m >= r), encoder and decoder tied.

    In principal coordinates, of falling variance, it reconstructs as well as m components can before the first step, so
    that training only has to find the sparse rotation; being random, it favours no solution and other seeds start
    elsewhere.
    """
    r = acts.shape[1]
    rank = min(n_latents, r)
    weight = acts.new_zeros(len(generators), n_latents, r)
    for rows, generator in zip(weight, generators, strict=True):
        rows[:, :rank] = torch.linalg.qr(torch.randn(n_latents, rank, generator=generator, device=acts.device)).Q
    return _with_biases(weight, weight.clone())


def _with_biases(encoder_weight: Tensor, dictionary: Tensor) -> Parameters:
    s, m, d = dictionary.shape
    return {
        "encoder_weight": encoder_weight,
        "encoder_bias": dictionary.new_zeros(s, m),
        "dictionary": dictionary,
        "decoder_bias": dictionary.new_zeros(s, d),
    }


def unit_rows(parameters: Parameters) -> Parameters:
    """The parameters with dictionary rows of unit norm: a loss that decodes with them gains nothing by rescaling."""
    unit: Tensor = _UnitRows.apply(parameters["dictionary"])
    return {**parameters, "dictionary": unit}


class _UnitRows(torch.autograd.Function):
    """D / ‖D‖; its gradient is what the rows' own direction leaves over, written out for its passes over (s, m, d)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        norms = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_min_(SMALLEST_NORM)
        unit = rows / norms
        ctx.save_for_backward(unit, norms)
        return unit

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        unit, norms = ctx.saved_tensors
        along = torch.linalg.vecdot(upstream[0], unit)[..., None]
        return torch.addcmul(upstream[0], unit, along, value=-1).div_(norms)


def multiply_batch(
    left: Float[Tensor, "s n i"], right: Float[Tensor, "s i j"], added: Tensor | None = None, alpha: float = 1.0
) -> Float[Tensor, "s n j"]:
    """``added + alpha · left @ right`` of every problem, whose result does not depend on how many problems there are.

    A batch of one is multiplied as a single product, which a matrix library takes for one of matrix and vector where an
    axis has length 1, forwards or in the gradient: those are summed up in another order than in a batch. Adam turns the
    rounding of a gradient near 0 into a whole step. So such a batch of one gets a twin.
    """
    alone = len(left) == 1 and 1 in (*left.shape[1:], right.shape[2])
    if alone:
        left, right = left.expand(2, -1, -1), right.expand(2, -1, -1)
        added = None if added is None else added.expand(2, -1, -1)
    product = torch.bmm(left, right) if added is None else torch.baddbmm(added, left, right, alpha=alpha)
    return product[:1] if alone else product


def encode_linear(parameters: Parameters, acts: Float[Tensor, "s n d"]) -> Float[Tensor, "s n m"]:
    """Signed codes without an activation function."""
    return multiply_batch(acts, parameters["encoder_weight"].mT, parameters["encoder_bias"][:, None])


def decode(parameters: Parameters, codes: Float[Tensor, "s n m"]) -> Float[Tensor, "s n d"]:
    """Reconstructed activations."""
    return multiply_batch(codes, parameters["dictionary"], parameters["decoder_bias"][:, None])


def select_problem(parameters: Parameters, index: int) -> Parameters:
    """One of the s problems, still with a seed axis (of length 1)."""
    return {name: value[index : index + 1] for name, value in parameters.items()}


@dataclass(frozen=True)
class CodeMoments:
    """Moments of every latent's code over samples, each (m,) float64: largest magnitude, mean square, mean cube."""

    largest: Float[np.ndarray, " m"]
    square: Float[np.ndarray, " m"]
    cube: Float[np.ndarray, " m"]


def compute_code_moments(
    parameters: Parameters, acts: Float[Tensor, "n d"], activation: Activation = LINEAR
) -> CodeMoments:
    """Moments of the codes of a single problem, not scaled by the norms of the dictionary's rows."""
    zeros = torch.zeros_like(parameters["encoder_bias"][0], dtype=torch.float64)
    largest, square, cube = zeros, zeros, zeros
    with torch.inference_mode():
        for start in range(0, len(acts), CHUNK_ROWS):
            pre = encode_linear(parameters, acts[None, start : start + CHUNK_ROWS])[0]
            codes = activation.apply(pre)
            largest = torch.maximum(largest, torch.maximum(codes.amax(0), -codes.amin(0)).double())
            codes = codes.double()
            squares = codes * codes
            square = square + squares.sum(0)
            cube = cube + squares.mul_(codes).sum(0)
    n = len(acts)
    return CodeMoments(largest.cpu().numpy(), (square / n).cpu().numpy(), (cube / n).cpu().numpy())
