"""The one signature of all interventions: a strength in, an affine head out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

STRENGTH_LIMIT = 1e6  # units of every method; matched strengths are exact, so only float64 asks for an end


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
class LinearEdit:
    """An edit of any rank r that is linear in its strength t: ``W + t left @ right`` and ``b + t bias``.

    Every margin is then linear in t, as under a `RankOneEdit`, which is the case r = 1.

    Attributes:
        left: (k, r).
        right: (r, d).
        bias: (k,).
    """

    left: Float[np.ndarray, "k r"]
    right: Float[np.ndarray, "r d"]
    bias: Float[np.ndarray, " k"]

    def applied(self, head: AffineHead, strength: float) -> AffineHead:
        """The edited head; `head` itself at strength 0, so that no rounding touches it."""
        if strength == 0:
            return head
        return AffineHead(head.weight + strength * (self.left @ self.right), head.bias + strength * self.bias)


@dataclass(frozen=True)
class Intervention:
    """One edit of one class with a single strength, in one of three forms: `rank_one`, `linear` or `coupling`.

    All methods are searched up to the same `STRENGTH_LIMIT` of their units, so that "reached" means the same for
    all: some strength brings the class down. Strengths far beyond the unit are over-corrections (row scaling then
    turns the class's row around, ablation reverses the component along its direction, LEACE makes the class look
    like its opposite); what they cost shows in the other classes.

    Attributes:
        method: its name, for instance ``salve``.
        head: strength -> edited head; ``head(0.0)`` is the original head.
        max_strength: upper end of the range in which strengths are searched.
        feature: the latent it acts on, or None.
        unit: the strength at which the edit does what it is named for.
        rank_one: the same edit in factors where it is linear in its strength and of rank one, else None.
        linear: the same edit in factors where it is linear in its strength and of higher rank, else None.
        coupling: (d,) where the edit is ``W diag(max(0, 1 − strength × coupling / max coupling))``, else None.
    """

    method: str
    head: Callable[[float], AffineHead]
    max_strength: float
    feature: int | None = None
    unit: float = 1.0
    rank_one: RankOneEdit | None = None
    coupling: Float[np.ndarray, " d"] | None = None
    linear: LinearEdit | None = None

    @property
    def factors(self) -> LinearEdit | None:
        """The edit in factors of whatever rank, None where it is not linear in its strength."""
        if self.rank_one is None:
            return self.linear
        return LinearEdit(self.rank_one.left[:, None], self.rank_one.right[None, :], self.rank_one.bias)


def rank_one_intervention(
    method: str, head: AffineHead, edit: RankOneEdit, unit: float = 1.0, feature: int | None = None
) -> Intervention:
    """The intervention that adds t times `edit` to `head`, up to the common limit."""
    return Intervention(
        method=method,
        head=lambda strength: edit.applied(head, strength),
        max_strength=STRENGTH_LIMIT * unit,
        feature=feature,
        unit=unit,
        rank_one=edit,
    )


def linear_intervention(method: str, head: AffineHead, edit: LinearEdit) -> Intervention:
    """The intervention that adds t times `edit` to `head`, up to the common limit; its unit is 1."""
    return Intervention(
        method=method, head=lambda strength: edit.applied(head, strength), max_strength=STRENGTH_LIMIT, linear=edit
    )
