"""Activation functions, from pre-activations ``h = acts @ encoder_weight.T + encoder_bias`` to codes.

One description serves training units and model units alike, since every kind commutes with a common positive factor
(a threshold is scaled along).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.sae.variant_names import SIGNED_TOPK, TOPK

COUNTED = (TOPK, SIGNED_TOPK)
KINDS = ("linear", "relu", *COUNTED, "threshold")


@dataclass(frozen=True, eq=False)
class Activation:
    """An activation function: the rule by which codes follow from pre-activations.

    Attributes:
        kind: ``linear``: h; ``relu``: max(0, h); ``topk``: the k largest of max(0, h) of a sample; ``signed-topk``: the
            h of the k largest |h|; ``threshold``: h where it exceeds the latent's threshold, else 0.
        k: codes kept per sample, for the two top-k kinds only.
        threshold: (m,) non-negative, for ``threshold`` only.
    """

    kind: str = "linear"
    k: int | None = None
    threshold: Float[np.ndarray, " m"] | None = None

    def apply(self, pre: Float[Tensor, "*n m"]) -> Float[Tensor, "*n m"]:
        """Codes, differentiable in `pre` (the choice of what is kept is constant)."""
        if self.kind == "linear":
            return pre
        if self.kind == "relu":
            return pre.relu()
        if self.kind == "threshold":
            assert self.threshold is not None, "a threshold activation without thresholds"
            return pre * (pre > torch.from_numpy(self.threshold).to(pre.device, pre.dtype))
        assert self.k is not None, "a top-k activation without k"
        return keep_largest(pre, self.k, signed=self.kind == SIGNED_TOPK)


LINEAR = Activation()


def keep_largest(pre: Float[Tensor, "*n m"], k: int, *, signed: bool) -> Float[Tensor, "*n m"]:
    """All but the k largest of every sample set to 0: of |h| where codes are signed, else of max(0, h)."""
    values = pre if signed else pre.relu()
    if k >= pre.shape[-1]:
        return values
    largest = values.detach().abs().topk(k, dim=-1, sorted=False).indices
    return values * torch.zeros_like(values).scatter_(-1, largest, 1.0)


def find_activation_misfit(activation: Activation, n_latents: int) -> str | None:
    """The first fault of the description, in words; None: it has none."""
    kind, k, threshold = activation.kind, activation.k, activation.threshold
    if kind not in KINDS:
        return f"activation {kind!r} is not one of {', '.join(KINDS)}"
    counted = kind in COUNTED
    if counted and (k is None or not 1 <= k <= n_latents):
        return f"activation {kind!r} with k = {k}, expected 1 to {n_latents}"
    if (threshold is not None) != (kind == "threshold") or (k is not None) != counted:
        return f"activation {kind!r} lacks its k or threshold, or has one too many"
    if threshold is None:
        return None
    if threshold.dtype != np.float32 or threshold.shape != (n_latents,):
        return f"threshold is {threshold.dtype} {threshold.shape}, expected float32 ({n_latents},)"
    if not (np.isfinite(threshold).all() and (threshold >= 0).all()):
        return "threshold holds negative, NaN or infinite values"
    return None


def read_activation(metadata: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> Activation:
    """The activation that a file describes; linear where it says nothing. May be a misfit."""
    k = metadata.get("k")
    return Activation(
        metadata.get("activation", LINEAR.kind), int(k) if k and k.isdecimal() else None, arrays.get("threshold")
    )


def describe_activation(activation: Activation) -> dict[str, str]:
    """Metadata of a file; empty for linear codes."""
    if activation.kind == LINEAR.kind:
        return {}
    k = {} if activation.k is None else {"k": str(activation.k)}
    return {"activation": activation.kind, **k}
