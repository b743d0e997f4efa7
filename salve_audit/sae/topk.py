"""Losses that keep a number of codes instead of penalising them, and what brings silent latents back.

    h = W x + b_enc, z = the k largest of h, x̂ = z D + b, loss = mse(x̂, x) + α mse(z_aux D, x - x̂)

Dictionary rows count as of unit norm, so that "largest" means largest in canonical form. Written with W x instead of
W (x - b): the difference is a constant, which b_enc absorbs. The auxiliary term (arXiv 2406.04093) lets the latents
that were silent for an epoch explain what the others leave over; the error it explains already has b in it and is
constant there, so b is not added again and the term trains silent latents alone.

Shapes: acts (s, n, d), result (s,). Buffers, updated by the losses: ``silent`` (s, m), epochs since a latent last
fired, and ``epoch`` (s, 1), samples of an epoch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.sae.activation import Activation, keep_largest
from salve_audit.sae.code_list import list_largest, pays_to_list
from salve_audit.sae.listed import Auxiliary, listed_loss, preactivations
from salve_audit.sae.losses import mean_square
from salve_audit.sae.parameters import Parameters, multiply_batch, rotation_parameters, unit_rows
from salve_audit.sae.products import decode_batch, encode_batch
from salve_audit.sae.variant_names import SIGNED_TOPK, TOPK

AUX_WEIGHT = 1 / 32  # arXiv 2406.04093
AUX_SHARE = 16  # d/16 silent latents per sample: few enough to specialise; with d/2 half as many come back on ResNet-18
SILENT_EPOCHS = 1.0  # after which a latent gets the auxiliary loss
LARGEST_EPOCH = 15_000  # samples: large sets are read in part only, silence must count before a brief training ends


def topk_parameters(acts: Float[Tensor, "n d"], n_latents: int, generators: Sequence[torch.Generator]) -> Parameters:
    """A random rotation (see `rotation_parameters`), unit rows, and buffers that say that every latent just fired."""
    parameters = unit_rows(rotation_parameters(acts, n_latents, generators))
    parameters["encoder_weight"] = parameters["dictionary"].clone()
    s = len(generators)
    return {
        **parameters,
        "silent": acts.new_zeros(s, n_latents),
        "epoch": acts.new_full((s, 1), float(min(len(acts), LARGEST_EPOCH))),
    }


def topk_loss(
    parameters: Parameters, acts: Float[Tensor, "s n d"], k: float, *, signed: bool = False
) -> Float[Tensor, " s"]:
    """The k largest codes of every sample; signed: those of largest magnitude."""
    unit = unit_rows(parameters)
    if pays_to_list(acts, unit["dictionary"].shape[1], int(k)):
        pre = preactivations(unit, acts)
        entries = list_largest(pre.abs() if signed else pre.relu(), int(k))
        listed = listed_loss(unit, acts, pre, entries, describe_auxiliary(unit, signed=signed))
        count_silence(parameters, listed.fired(), acts.shape[1])
        return listed.loss
    pre = encode_batch(unit, acts)
    codes = keep_largest(pre, int(k), signed=signed)
    error = acts - decode_batch(unit, codes)
    loss = mean_square(error) + AUX_WEIGHT * auxiliary_loss(unit, pre, error, signed=signed)
    mark_silent(parameters, codes)
    return loss


def auxiliary_loss(
    parameters: Parameters, pre: Float[Tensor, "s n m"], error: Float[Tensor, "s n d"], *, signed: bool = False
) -> Float[Tensor, " s"]:
    """mse of the error that is left when the largest silent latents explain it; 0 where none is silent.

    Pre-activations below 0 take part: a latent that fires nowhere would get no gradient otherwise.
    """
    aux = describe_auxiliary(parameters, signed=signed)
    silent, n_kept = aux.silent[:, None], aux.n_kept
    codes = pre * silent
    if n_kept < pre.shape[-1]:
        rank = pre.detach().abs() if signed else pre.detach()
        largest = rank.masked_fill(~silent, -torch.inf).topk(n_kept, dim=-1, sorted=False).indices
        codes = codes * torch.zeros_like(codes).scatter_(-1, largest, 1.0)
    left = error.detach() - multiply_batch(codes, parameters["dictionary"])
    return mean_square(left) * silent.any(-1)[:, 0]


def describe_auxiliary(parameters: Parameters, *, signed: bool) -> Auxiliary:
    """The latents that are silent now, and how the auxiliary loss uses them."""
    n_kept = max(1, parameters["dictionary"].shape[-1] // AUX_SHARE)
    return Auxiliary(parameters["silent"] > SILENT_EPOCHS, n_kept, AUX_WEIGHT, signed)


@torch.no_grad()
def mark_silent(parameters: Parameters, codes: Float[Tensor, "s n m"]) -> None:
    """Counts on, in epochs, for the latents that did not fire in this batch; no value is read back."""
    count_silence(parameters, (codes != 0).any(1), codes.shape[1])


@torch.no_grad()
def count_silence(parameters: Parameters, fired: Tensor, n: int) -> None:
    """Counts on, in epochs, from (s, m) of what fired among n samples."""
    silent = parameters["silent"]
    silent.add_(n / parameters["epoch"]).mul_(fired.view_as(silent) == 0)


def fold_topk(parameters: Parameters, k: float, *, signed: bool = False) -> tuple[Parameters, Activation]:
    """Unit rows, and the k that training kept."""
    n_kept = min(int(k), parameters["dictionary"].shape[1])
    return unit_rows(parameters), Activation(SIGNED_TOPK if signed else TOPK, k=n_kept)


signed_topk_loss: Callable[[Parameters, Tensor, float], Tensor] = functools.partial(topk_loss, signed=True)
fold_signed_topk: Callable[[Parameters, float], tuple[Parameters, Activation]] = functools.partial(
    fold_topk, signed=True
)
