"""The losses of `topk` and `batchtopk` by lists of the codes that are kept (see `kept`): the same values, less work.

The auxiliary loss takes a quarter of each batch: its mean is the same, and it only has to bring latents back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from salve_audit.sae.code_list import CodeList, decode_entries, encode_entries, join_lists, list_largest, select_entries
from salve_audit.sae.losses import mean_square
from salve_audit.sae.parameters import Parameters
from salve_audit.sae.products import multiply

AUX_PART = 4  # one sample of so many takes part in the auxiliary loss


@dataclass(frozen=True)
class Auxiliary:
    """Latents and weight of the auxiliary loss.

    Attributes:
        silent: (s, m), which latents it is for.
        n_kept: how many of them may explain a sample's error.
        weight: of the loss.
        signed: codes count by magnitude.
    """

    silent: Bool[Tensor, "s m"]
    n_kept: int
    weight: float
    signed: bool = False


@dataclass(frozen=True)
class Listed:
    """A loss (s,) with the list of codes kept and the codes (e,)."""

    loss: Float[Tensor, " s"]
    entries: CodeList
    codes: Float[Tensor, " e"]

    def fired(self) -> Float[Tensor, " s_m"]:
        """1 for every latent with a code that is not 0."""
        fired = torch.zeros(self.entries.n_latents)
        fired[self.entries.latent[self.codes != 0]] = 1
        return fired


@torch.no_grad()
def preactivations(parameters: Parameters, acts: Float[Tensor, "s n d"]) -> Float[Tensor, "s n m"]:
    """Pre-activations of all latents, without a gradient: most are not kept."""
    return multiply(acts, parameters["encoder_weight"].mT).add_(parameters["encoder_bias"][:, None])


def listed_loss(
    parameters: Parameters, acts: Float[Tensor, "s n d"], pre: Float[Tensor, "s n m"], entries: CodeList, aux: Auxiliary
) -> Listed:
    """mse of the reconstruction by the codes in the list and the auxiliary loss.

    With g rows in the list for each sample, the first is reconstructed from the first row alone, the next from two and
    so on (nested prefixes), and the mean over all of them counts.

    Args:
        parameters: with unit rows.
        acts: the batch.
        pre: its pre-activations.
        entries: the codes that reconstruct it; row i·n·g + j·g is the first of sample j of seed i.
        aux: of the auxiliary loss.
    """
    s, n, d = acts.shape
    n_nested = entries.n_rows // (s * n)
    extra = _list_silent(pre, aux)
    n_aux = 0 if extra is None else extra.n_rows // s
    both = entries if extra is None else join_lists(entries, extra)
    own = torch.arange(s * n)
    sample = torch.cat([own.repeat_interleave(n_nested), own.view(s, n)[:, :n_aux].flatten()])[both.row]
    values = pre.reshape(-1)[sample * pre.shape[-1] + both.latent % pre.shape[-1]]
    codes = encode_entries(parameters, acts.reshape(s * n, d), both, sample, values)
    if not aux.signed:
        codes = torch.cat([codes[: len(entries.row)].relu(), codes[len(entries.row) :]])
    recon = decode_entries(codes, parameters["dictionary"], both)
    nested = recon[: entries.n_rows].view(s, n, n_nested, d)
    nested = nested.cumsum(2) if n_nested > 1 else nested
    error = (nested + parameters["decoder_bias"][:, None, None]).sub_(acts[:, :, None])
    loss = mean_square(error)
    if extra is not None:
        left = recon[entries.n_rows :].view(s, n_aux, d) + error[:, :n_aux, -1].detach()
        loss = loss + aux.weight * mean_square(left) * aux.silent.any(1)
    return Listed(loss, entries, codes.detach()[: len(entries.row)])


def _list_silent(pre: Float[Tensor, "s n m"], aux: Auxiliary) -> CodeList | None:
    """The largest silent codes of a part of the batch; None if none is silent.

    They are sought among as many columns as the seed with the most silent latents has; fillers are left out.
    """
    silent = aux.silent
    most = int(silent.sum(1).numpy().max())
    if most == 0:
        return None
    s, n, m = pre.shape
    n_aux = math.ceil(n / AUX_PART)
    column = torch.argsort(silent.logical_not().to(torch.uint8), dim=1, stable=True)[:, :most]  # (s, most)
    real = silent.gather(1, column)
    rank = pre[:, :n_aux].gather(2, column[:, None].expand(-1, n_aux, -1))
    rank = (rank.abs() if aux.signed else rank).masked_fill_(real.logical_not()[:, None], -torch.inf)
    of_columns = list_largest(rank, min(aux.n_kept, most))
    chosen = of_columns.latent  # i·most + position
    latent = (column + torch.arange(s)[:, None] * m).flatten()[chosen]
    listed = CodeList(of_columns.row, latent, of_columns.n_rows, s * m)
    return listed if bool(real.numpy().all()) else select_entries(listed, real.flatten()[chosen])
