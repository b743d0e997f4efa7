"""Losses as pure functions of one signature: (acts, codes, recon, dictionary) with a seed axis -> one value per seed.

Shapes: acts and recon (s, n, d), codes (s, n, m), dictionary (s, m, d); the result is (s,). Their sum over seeds is
what is differentiated: the seeds share no parameter, so each gets its own gradient.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def mean_square_error(acts: Float[Tensor, "s n d"], recon: Float[Tensor, "s n d"]) -> Float[Tensor, " s"]:
    """Mean over samples and coordinates."""
    return (recon - acts).square().mean((1, 2))


def l1_raw(codes: Float[Tensor, "s n m"], dictionary: Float[Tensor, "s m d"]) -> Float[Tensor, " s"]:
    """Σ|z| over latents, mean over samples, as the paper has it: rewards z -> tz, D -> D/t without end."""
    return codes.abs().mean(1).sum(-1)


def l1_canonical(codes: Float[Tensor, "s n m"], dictionary: Float[Tensor, "s m d"]) -> Float[Tensor, " s"]:
    """The same in canonical form, |z_l|·‖D_l‖: no t changes it, so no row has to be projected after a step."""
    return (codes.abs().mean(1) * dictionary.norm(dim=-1)).sum(-1)
