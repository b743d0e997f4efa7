"""The network as the search for evidence sees it: one function of prepared pictures, nothing about modules.

A callable instead of a model, so that the search stays apart from how networks are loaded and hooked, and can be
tested on functions whose evidence is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """What one pass shows.

    Attributes:
        logits: (b, k), differentiable in the pictures.
        maps: (b, d, gh, gw) activations of one spatial layer, which tell one kind of evidence from another.
    """

    logits: Float[Tensor, "b k"]
    maps: Float[Tensor, "b d gh gw"]


Probe = Callable[[Float[Tensor, "b c h w"]], Seen]


def soft_margin(logits: Float[Tensor, "b k"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """The class's logit over the log-sum-exp of the others: smooth, and it does not saturate as a probability does."""
    own = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    return logits[own] - logits.masked_fill(own, -torch.inf).logsumexp(1)


def hard_margin(logits: Float[Tensor, "b k"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """The class's logit over the largest other: above 0 where the picture is classified as `labels`."""
    own = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    return logits[own] - logits.masked_fill(own, -torch.inf).amax(1)
