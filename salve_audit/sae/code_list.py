"""Lists of codes: training computes those kept alone, of 2,048 with 32 kept 1.6 % of the work of four products in five.

Only the pre-activations, among which the largest are sought, are a product of full size. The codes kept are a list of
(row, latent); decoding gathers the rows of the dictionary, and the gradients go back along the same list: rows of the
reconstruction's gradient for the dictionary, rows of the activations for the encoder. All s seeds are one list: latent
l of seed i is number i·m + l.

For processors only: on a graphics card dense products are faster than lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from salve_audit.sae.parameters import Parameters

LEAST_WORK = 2**21  # multiplications of one seed's product
SPARE = 4  # latents for each code kept: with fewer the lists cost what they save


def pays_to_list(acts: Float[Tensor, "s n d"], n_latents: int, n_kept: int) -> bool:
    """True if a list of the codes kept is faster than products of mostly zeros."""
    work = acts[0].numel() * n_latents
    return (
        acts.device.type == "cpu" and acts.dtype == torch.float32 and work >= LEAST_WORK and SPARE * n_kept <= n_latents
    )


@dataclass(frozen=True, eq=False)
class CodeList:
    """A list of (row, latent), ordered by row.

    Attributes:
        row: (e,) int64, in 0..n_rows-1.
        latent: (e,) int64, in 0..n_latents-1: the seeds' latents one after another.
        n_rows, n_latents: how many there are, those without an entry included.
    """

    row: Int[Tensor, " e"]
    latent: Int[Tensor, " e"]
    n_rows: int
    n_latents: int

    @cached_property
    def start(self) -> Int[Tensor, " n_rows"]:
        """Position of each row's first entry."""
        return _starts(self.row, self.n_rows)

    @cached_property
    def by_latent(self) -> tuple[Int[Tensor, " e"], Int[Tensor, " n_latents"]]:
        """The order of the entries by latent, and where each latent begins."""
        latent = self.latent.numpy()
        short = latent.astype(np.uint16) if self.n_latents <= 2**16 else latent  # sorted by counting
        return torch.from_numpy(np.argsort(short, kind="stable")), _starts(self.latent, self.n_latents)


def _starts(numbers: Int[Tensor, " e"], n: int) -> Int[Tensor, " n"]:
    counts = np.bincount(numbers.numpy(), minlength=n)
    return torch.from_numpy(np.cumsum(counts) - counts)


def list_largest(rank: Float[Tensor, "s n m"], k: int) -> CodeList:
    """The k of each sample with the largest rank; row i·n + j is sample j of seed i.

    The last bits of a rank give way to its latent's number, so that one partition finds both: ranks that differ by less
    than m/2²³ of themselves count as equal. NaN may come out anywhere.
    """
    s, n, m = rank.shape
    mask = (1 << (m - 1).bit_length()) - 1
    keys = _ordered(rank.reshape(s * n, m))
    keys.bitwise_and_(~mask).bitwise_or_(torch.arange(m, dtype=torch.int32))
    array = keys.numpy()
    array.partition(m - k, axis=1)
    latent = (array[:, m - k :] & mask).astype(np.int64).reshape(s, n * k)
    latent += np.arange(s)[:, None] * m
    row = torch.arange(s * n).repeat_interleave(k)
    return CodeList(row, torch.from_numpy(latent.ravel()), s * n, s * m)


def _ordered(rank: Float[Tensor, "r m"]) -> Int[Tensor, "r m"]:
    """Integers in the order of the floats: their own bits, with those of negative ones turned round."""
    bits = rank.clone().view(torch.int32)
    return bits.bitwise_xor_((bits >> 31).bitwise_and_(0x7FFFFFFF))


def list_largest_of_batch(rank: Float[Tensor, "s n m"], k: int) -> CodeList:
    """The positive ones among the k·n largest ranks of each seed's batch; of ranks that are equal, all or none."""
    s, n, m = rank.shape
    flat = rank.reshape(s, n * m).numpy()
    place = n * m - k * n
    least = np.partition(flat, place, axis=1)[:, place, None]
    entry = np.flatnonzero((flat >= least) & (flat > 0))
    row = entry // m
    return CodeList(torch.from_numpy(row), torch.from_numpy(entry - (row - row // n) * m), s * n, s * m)


def select_entries(entries: CodeList, chosen: Tensor) -> CodeList:
    """The entries that a mask (e,) chooses."""
    return CodeList(entries.row[chosen], entries.latent[chosen], entries.n_rows, entries.n_latents)


def join_lists(first: CodeList, second: CodeList) -> CodeList:
    """One list after the other, with the second's rows after the first's; the latents are the same."""
    row = torch.cat([first.row, second.row + first.n_rows])
    latent = torch.cat([first.latent, second.latent])
    return CodeList(row, latent, first.n_rows + second.n_rows, first.n_latents)


def encode_entries(
    parameters: Parameters, acts: Float[Tensor, "a d"], entries: CodeList, sample: Int[Tensor, " e"], values: Tensor
) -> Float[Tensor, " e"]:
    """`values` (e,), the pre-activations of samples `sample` (e,) at the list, with the gradient of the encoder."""
    weight, bias = parameters["encoder_weight"], parameters["encoder_bias"]
    codes: Tensor = _Encode.apply(weight, bias, acts, entries, sample, values)
    return codes


def decode_entries(
    codes: Float[Tensor, " e"], dictionary: Float[Tensor, "s m d"], entries: CodeList
) -> Float[Tensor, "r d"]:
    """``codes @ dictionary`` along the list."""
    recon: Tensor = _Decode.apply(codes, dictionary, entries)
    return recon


def _gather_sum(table: Tensor, rows: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """Σ weight · table[row] over the entries from each start to the next."""
    return functional.embedding_bag(rows, table, starts, mode="sum", per_sample_weights=weights)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, acts: Tensor, entries: CodeList, sample: Tensor, values: Tensor
    ) -> Tensor:
        ctx.save_for_backward(acts, sample)
        ctx.entries, ctx.shape = entries, weight.shape
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        entries, (acts, sample) = ctx.entries, ctx.saved_tensors
        order, starts = entries.by_latent
        from_weight = _gather_sum(acts, sample[order], starts, upstream[0][order])
        sums = np.bincount(entries.latent.numpy(), upstream[0].numpy(), minlength=entries.n_latents)
        from_bias = torch.from_numpy(sums.astype(np.float32))
        return from_weight.view(ctx.shape), from_bias.view(ctx.shape[:2]), None, None, None, None


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, codes: Tensor, dictionary: Tensor, entries: CodeList) -> Tensor:
        table = dictionary.detach().flatten(0, 1)
        with torch.enable_grad():  # torch's own gradient for the weights of a sum is the dot products wanted here
            weights = codes.detach().requires_grad_()
            recon = _gather_sum(table, entries.latent, entries.start, weights)
        ctx.entries, ctx.shape, ctx.inner = entries, dictionary.shape, (weights, recon)
        return recon.detach()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        entries, (weights, recon) = ctx.entries, ctx.inner
        order, starts = entries.by_latent
        gradient = upstream[0].contiguous()
        (from_codes,) = torch.autograd.grad(recon, weights, gradient)
        from_rows = _gather_sum(gradient, entries.row[order], starts, weights.detach()[order])
        return from_codes, from_rows.view(ctx.shape), None
