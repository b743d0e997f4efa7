"""What is trained: a mapping of tensors with a seed axis in front, so that several autoencoders train as one problem.

Shapes: encoder_weight and dictionary (s, m, d), encoder_bias (s, m), decoder_bias (s, d); acts (s, n, d),
codes (s, n, m).
Problem i of the s sees its own batches and touches nothing of the others: training them together or one by one is the
same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.sae.normalisation import Normalisation

Parameters = dict[str, Tensor]
CHUNK_ROWS = 8192
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
    acts: Float[Tensor, "n d"], n_latents: int, generators: Sequence[torch.Generator]
) -> Parameters:
    """A random rotation of the leading principal components (all coordinates where m >= d), encoder and decoder tied.

    It reconstructs as well as m components can before the first step, so that training only has to find the sparse
    rotation; being random, it favours no solution and other seeds start elsewhere.
    """
    d = acts.shape[1]
    rank = min(n_latents, d)
    basis = torch.eye(d, device=acts.device)
    if rank < d:
        basis = torch.linalg.eigh(acts.T @ acts / len(acts)).eigenvectors.flip(1)[:, :rank].contiguous()
    rotations = [
        torch.linalg.qr(torch.randn(n_latents, rank, generator=g, device=acts.device)).Q @ basis.T for g in generators
    ]
    weight = torch.stack(rotations)
    return _with_biases(weight, weight.clone())


def _with_biases(encoder_weight: Tensor, dictionary: Tensor) -> Parameters:
    s, m, d = dictionary.shape
    return {
        "encoder_weight": encoder_weight,
        "encoder_bias": dictionary.new_zeros(s, m),
        "dictionary": dictionary,
        "decoder_bias": dictionary.new_zeros(s, d),
    }


def encode_linear(parameters: Parameters, acts: Float[Tensor, "s n d"]) -> Float[Tensor, "s n m"]:
    """Signed codes without an activation function."""
    return torch.baddbmm(parameters["encoder_bias"][:, None], acts, parameters["encoder_weight"].mT)


def decode(parameters: Parameters, codes: Float[Tensor, "s n m"]) -> Float[Tensor, "s n d"]:
    """Reconstructed activations."""
    return torch.baddbmm(parameters["decoder_bias"][:, None], codes, parameters["dictionary"])


def select_problem(parameters: Parameters, index: int) -> Parameters:
    """One of the s problems, still with a seed axis (of length 1)."""
    return {name: value[index : index + 1] for name, value in parameters.items()}


def canonical_arrays(
    parameters: Parameters, acts: Float[Tensor, "n d"], normalisation: Normalisation, *, silence: bool
) -> dict[str, np.ndarray]:
    """Canonical form of a single problem: unit-norm rows, scale in the codes, normalisation folded, signed and ordered.

    With x = (a - μ) / σ, z = E x + e and x̂ = z D + δ, a row of norm r becomes D / r with code σ r z, hence the encoder
    r E with bias r (σ e - E μ), and the decoder bias σ δ + μ. `acts` (n, d) are the training samples as training
    sees them; latents that never exceed 1 % of the largest latent's largest |code| on them are silenced if `silence`.
    """
    one = {name: value[0].detach().cpu().double().numpy() for name, value in parameters.items()}
    norms = np.linalg.norm(one["dictionary"], axis=1)
    largest, energy, skew = _code_moments(parameters, acts)
    largest, energy = largest * norms, energy * norms**2
    alive = (largest > DEAD_SHARE * largest.max()) if silence else norms > 0
    order = np.argsort(-np.where(alive, energy, -1.0), kind="stable")
    sign = np.where(skew < 0, -1.0, 1.0)
    rows = one["dictionary"] / np.where(norms > 0, norms, 1.0)[:, None] * sign[:, None]
    rows[norms == 0, 0] = 1.0  # no direction was learned; the encoder row is zero anyway
    weight = one["encoder_weight"] * (norms * sign * alive)[:, None]
    bias = normalisation.scale * norms * sign * alive * one["encoder_bias"] - weight @ normalisation.mean
    arrays = {
        "dictionary": rows[order],
        "encoder_weight": weight[order],
        "encoder_bias": bias[order],
        "decoder_bias": normalisation.scale * one["decoder_bias"] + normalisation.mean,
    }
    return {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}


def _code_moments(parameters: Parameters, acts: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Largest |code|, mean square and mean cube of every latent over the samples, each (m,) float64."""
    zeros = torch.zeros_like(parameters["encoder_bias"][0], dtype=torch.float64)
    largest, square, cube = zeros, zeros, zeros
    with torch.inference_mode():
        for start in range(0, len(acts), CHUNK_ROWS):
            codes = encode_linear(parameters, acts[None, start : start + CHUNK_ROWS])[0].double()
            largest = torch.maximum(largest, codes.abs().amax(0))
            square = square + codes.square().sum(0)
            cube = cube + codes.pow(3).sum(0)
    return largest.cpu().numpy(), (square / len(acts)).cpu().numpy(), (cube / len(acts)).cpu().numpy()
