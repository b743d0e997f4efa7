"""The one signature of all interventions: a strength in, an affine head out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class AffineHead:
    """``logits = acts @ weight.T + bias``, float64.

    Attributes:
        weight: (k, d).
        bias: (k,).
    """

    weight: Float[np.ndarray, "k d"]
    bias: Float[np.ndarray, " k"]

    def logits(self, acts: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """Logits of the activations, (n, k)."""
        return acts @ self.weight.T + self.bias


@dataclass(frozen=True)
class RankOneEdit:
    """An edit that is linear in its strength t: ``W + t left rightᵀ`` and ``b + t bias``.

    Kept beside the dense head because the edited logits are then ``logits + t ((acts @ right) leftᵀ + bias)``: no
    matrix product per strength.

    Attributes:
        left: (k,).
        right: (d,).
        bias: (k,).
    """

    left: Float[np.ndarray, " k"]
    right: Float[np.ndarray, " d"]
    bias: Float[np.ndarray, " k"]

    def applied(self, head: AffineHead, strength: float) -> AffineHead:
        """The edited head; `head` itself at strength 0, so that no rounding touches it."""
        if strength == 0:
            return head
        weight = head.weight + strength * np.outer(self.left, self.right)
        return AffineHead(weight, head.bias + strength * self.bias)


@dataclass(frozen=True)
class Intervention:
    """One edit of one class with a single strength.

    Attributes:
        method: its name, for instance ``salve``.
        head: strength -> edited head; ``head(0.0)`` is the original head.
        max_strength: upper end of the range in which strengths are searched.
        feature: the latent it acts on, or None.
        unit: the strength of an ordinary edit: searched in even steps up to here, in geometric ones beyond.
        rank_one: the same edit in factors where it is linear in its strength, else None.
    """

    method: str
    head: Callable[[float], AffineHead]
    max_strength: float
    feature: int | None = None
    unit: float = 1.0
    rank_one: RankOneEdit | None = None


def rank_one_intervention(
    method: str, head: AffineHead, edit: RankOneEdit, max_strength: float = 1.0, feature: int | None = None
) -> Intervention:
    """The intervention that adds t times `edit` to `head`; its unit is 1."""
    return Intervention(
        method=method,
        head=lambda strength: edit.applied(head, strength),
        max_strength=max_strength,
        feature=feature,
        rank_one=edit,
    )
