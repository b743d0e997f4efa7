"""Codes kept over a whole batch: a sample that needs more may have more (arXiv 2412.06410), nested or not (2503.17547).

Of the n·m values max(0, h) of a batch of n samples the k·n largest are kept. A single sample has no batch, so what is
saved is a threshold: the running mean of the smallest code kept. Everything else is as in `topk`.

Shapes: acts (s, n, d), result (s,). Buffers besides those of `topk`: ``cutoff`` (s, 1), the running mean; ``n_steps``
(s, 1) that it was taken over; for matryoshka ``group`` (s, m), the number of the shortest prefix that has the latent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.sae.activation import Activation
from salve_audit.sae.code_list import CodeList, list_largest_of_batch, pays_to_list
from salve_audit.sae.listed import listed_loss, preactivations
from salve_audit.sae.losses import mean_square
from salve_audit.sae.parameters import Parameters, multiply_batch, unit_rows
from salve_audit.sae.products import decode_batch, encode_batch
from salve_audit.sae.topk import (
    AUX_WEIGHT,
    auxiliary_loss,
    count_silence,
    describe_auxiliary,
    mark_silent,
    topk_parameters,
)

MEMORY = 1 / 30  # of the running mean: it forgets within a hundred steps, whatever the size of the set
N_PREFIXES = 5  # m, m/2, ... m/16


def batchtopk_parameters(
    acts: Float[Tensor, "n d"], n_latents: int, generators: Sequence[torch.Generator]
) -> Parameters:
    """Fresh parameters as topk has them, with an empty running mean of the cutoff."""
    s = len(generators)
    mean = {"cutoff": acts.new_zeros(s, 1), "n_steps": acts.new_zeros(s, 1)}
    return {**topk_parameters(acts, n_latents, generators), **mean}


def matryoshka_parameters(
    acts: Float[Tensor, "n d"], n_latents: int, generators: Sequence[torch.Generator]
) -> Parameters:
    """Fresh parameters as batchtopk has them, every latent with its group."""
    ends = torch.tensor(prefix_lengths(n_latents), device=acts.device)
    group = torch.bucketize(torch.arange(n_latents, device=acts.device), ends, right=True)
    grouped = group.to(acts.dtype).repeat(len(generators), 1)
    return {**batchtopk_parameters(acts, n_latents, generators), "group": grouped}


def prefix_lengths(n_latents: int) -> list[int]:
    """Nested sets of the first latents, each about twice as long as the one before; the last has all."""
    return sorted({math.ceil(n_latents / 2**i) for i in range(N_PREFIXES)})


def batchtopk_loss(parameters: Parameters, acts: Float[Tensor, "s n d"], k: float) -> Float[Tensor, " s"]:
    """mse of the reconstruction, and the auxiliary loss of `topk`."""
    unit = unit_rows(parameters)
    if pays_to_list(acts, unit["dictionary"].shape[1], int(k)):
        return _listed_loss(parameters, unit, acts, int(k))
    pre = encode_batch(unit, acts)
    codes = keep_largest_of_batch(pre, int(k))
    error = acts - decode_batch(unit, codes)
    loss = mean_square(error) + AUX_WEIGHT * auxiliary_loss(unit, pre, error)
    _keep_up(parameters, codes)
    return loss


def matryoshka_loss(parameters: Parameters, acts: Float[Tensor, "s n d"], k: float) -> Float[Tensor, " s"]:
    """The mean over prefixes of the mse of the reconstruction by the latents of the prefix alone."""
    unit = unit_rows(parameters)
    if pays_to_list(acts, unit["dictionary"].shape[1], int(k)):
        return _listed_loss(parameters, unit, acts, int(k), nested=True)
    pre = encode_batch(unit, acts)
    codes = keep_largest_of_batch(pre, int(k))
    error = acts - unit["decoder_bias"][:, None]
    total, start = acts.new_zeros(len(acts)), 0
    lengths = prefix_lengths(codes.shape[-1])
    for end in lengths:
        error = multiply_batch(codes[..., start:end], unit["dictionary"][:, start:end], error, alpha=-1)
        total, start = total + mean_square(error), end
    loss = total / len(lengths) + AUX_WEIGHT * auxiliary_loss(unit, pre, error)
    _keep_up(parameters, codes)
    return loss


def _listed_loss(parameters: Parameters, unit: Parameters, acts: Tensor, k: int, *, nested: bool = False) -> Tensor:
    """The loss by a list of the codes kept; nested: a row for every group of latents."""
    s, n, _ = acts.shape
    pre = preactivations(unit, acts)
    entries = list_largest_of_batch(pre, k)
    seed = entries.row // n
    if nested:  # groups are ranges of latents, so that the list stays in order
        group = unit["group"].flatten().long()[entries.latent]
        n_groups = len(prefix_lengths(pre.shape[-1]))
        entries = CodeList(entries.row * n_groups + group, entries.latent, entries.n_rows * n_groups, entries.n_latents)
    listed = listed_loss(unit, acts, pre, entries, describe_auxiliary(unit, signed=False))
    count_silence(parameters, listed.fired(), n)
    smallest = acts.new_full((s,), torch.inf).scatter_reduce_(0, seed, listed.codes, "amin")
    _follow_cutoff(parameters, smallest[:, None])
    return listed.loss


def keep_largest_of_batch(pre: Float[Tensor, "s n m"], k: int) -> Float[Tensor, "s n m"]:
    """All but the k·n largest of the positive values of every seed's batch set to 0."""
    values = pre.relu()
    if k >= pre.shape[-1]:
        return values
    largest = values.detach().flatten(1).topk(k * pre.shape[1], dim=-1, sorted=False).indices
    return values * values.new_zeros(len(pre), pre[0].numel()).scatter_(-1, largest, 1.0).view_as(values)


@torch.no_grad()
def _keep_up(parameters: Parameters, codes: Float[Tensor, "s n m"]) -> None:
    """Silence, and the running mean: of all steps at first, then fading."""
    mark_silent(parameters, codes)
    _follow_cutoff(parameters, codes.masked_fill(codes <= 0, torch.inf).flatten(1).amin(1, keepdim=True))


@torch.no_grad()
def _follow_cutoff(parameters: Parameters, smallest: Float[Tensor, "s 1"]) -> None:
    """Infinite where no code was kept."""
    smallest = torch.where(smallest.isinf(), 0.0, smallest)
    steps = parameters["n_steps"].add_(1)
    parameters["cutoff"].lerp_(smallest, (1 / steps).clamp_min(MEMORY))


def fold_batchtopk(parameters: Parameters, _: float) -> tuple[Parameters, Activation]:
    """Unit rows, and the running mean as every latent's threshold."""
    n_latents = parameters["dictionary"].shape[1]
    threshold = parameters["cutoff"][0].expand(n_latents).detach().cpu().numpy().copy()
    return unit_rows(parameters), Activation("threshold", threshold=threshold)
