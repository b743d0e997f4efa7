"""What removals of any kind do to the predictions: at full strength, and the smallest strength that changes each one.

Strength t leaves ``positions - t * part(positions)``, and the network's own rest runs on that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from salve_audit.reliance.depth.assess import THIN, Share, share_of
from salve_audit.reliance.depth.latents.tail import LayerBatch, LayerTail, parts_of
from salve_audit.reliance.depth.records import widen_interval
from salve_audit.reliance.depth.removal import Removal


@dataclass(frozen=True)
class StrengthSearch:
    """How the smallest strength is found.

    Attributes:
        n_scan: equal steps up to strength 1; a change and a change back within one step go unnoticed.
        tolerance: of the strength.
    """

    n_scan: int = 8
    tolerance: float = 1e-3


@dataclass(frozen=True)
class ClassDrop:
    """What one removal costs one class.

    Attributes:
        label: class index.
        n: its pictures that were right.
        drop: share of them that turn wrong at strength 1, with its 95 % interval.
        thin: fewer than 30 of them.
    """

    label: int
    n: int
    drop: Share
    thin: bool


@dataclass(frozen=True)
class Effect:
    """What one removal costs a class and, beside it, the others.

    Attributes:
        own: of the class.
        others: each other class with right pictures, by label.
        mean_others: mean drop of the others, with its interval over their pictures; NaN without others.
    """

    own: ClassDrop
    others: tuple[ClassDrop, ...]
    mean_others: Share


def remove_each(
    tail: LayerTail, removals: Sequence[Removal], rows: Int[np.ndarray, " n"], strength: float = 1.0
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "r n"]]:
    """Margins of the pictures with nothing taken out (n,), and with each removal taken out alone (r, n).

    Raises:
        LayerError: the network fails.
    """
    clean, changed = [], []
    for batch in tail.reach(rows):
        every = torch.arange(len(batch), device=batch.positions.device)
        with torch.no_grad():
            found = [
                tail.margins(batch, batch.positions - strength * part, every)
                for part in parts_of(removals, batch.positions)
            ]
        clean.append(tail.clean(batch).cpu().numpy())
        changed.append(torch.stack(found).cpu().numpy() if found else np.zeros((0, len(batch))))
    return np.concatenate(clean), np.concatenate(changed, axis=1)


def find_strengths(
    tail: LayerTail, removals: Sequence[Removal], rows: Int[np.ndarray, " n"], search: StrengthSearch | None = None
) -> Float[np.ndarray, "r n"]:
    """The smallest strength at which each removal turns each picture wrong, at most `tolerance` too large.

    inf: it stays right up to strength 1 (right-censored there). NaN: it was wrong from the start.

    Raises:
        LayerError: the network fails.
    """
    search = search or StrengthSearch()
    found: list[np.ndarray] = []
    for batch in tail.reach(rows):
        with torch.no_grad():
            parts = parts_of(removals, batch.positions)
            found.append(np.stack([strengths_in(tail, batch, part, search).cpu().numpy() for part in parts]))
    return np.concatenate(found, axis=1)


def strengths_in(
    tail: LayerTail, batch: LayerBatch, part: Float[Tensor, "b p d"], search: StrengthSearch
) -> Float[Tensor, " b"]:
    """The same for one batch and what one removal takes out of it."""

    def wrong(which: Tensor, strength: Tensor) -> Tensor:
        positions = batch.positions[which] - strength.view(-1, 1, 1) * part[which]
        return tail.margins(batch, positions, which) <= 0

    return bisect(wrong, tail.clean(batch) > 0, search)


def bisect(
    wrong: Callable[[Int[Tensor, " q"], Float[Tensor, " q"]], Bool[Tensor, " q"]],
    right: Bool[Tensor, " b"],
    search: StrengthSearch,
) -> Float[Tensor, " b"]:
    """The smallest strength in (0, 1] at which each is wrong: scanned from below, then the first step is halved.

    Args:
        wrong: (which of the b, at which strength) -> is it wrong there?
        right: at strength 0.
        search: how finely.

    Returns:
        inf: at no step of the scan. NaN: not right at 0.
    """
    step = 1 / search.n_scan
    high = torch.full(right.shape, torch.inf, device=right.device)
    for i in range(1, search.n_scan + 1):
        open_ = torch.nonzero(right & high.isinf())[:, 0]
        if not len(open_):
            break
        at = high.new_full((len(open_),), i * step)
        high[open_] = torch.where(wrong(open_, at), at, torch.inf)
    known = torch.nonzero(high.isfinite())[:, 0]
    top, width = high[known], step
    while width > search.tolerance and len(known):
        width /= 2
        top = torch.where(wrong(known, top - width), top - width, top)
    high[known] = top
    return torch.where(right, high, torch.nan)


def median_strength(strengths: Float[np.ndarray, " n"]) -> float | None:
    """Of the pictures that were right; None: most of them stay right up to 1, or there are none."""
    known = strengths[~np.isnan(strengths)]
    if not len(known):
        return None
    middle = float(np.sort(known)[(len(known) - 1) // 2])
    return middle if np.isfinite(middle) else None


def summarise_effect(
    clean: Float[np.ndarray, " n"],
    without: Float[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    label: int,
    rng: np.random.Generator,
) -> Effect:
    """Drops of the class and of all others from margins with nothing, and with one thing, taken out."""
    turned = {int(one): without[(labels == one) & (clean > 0)] <= 0 for one in np.unique(labels[clean > 0]).tolist()}
    own = turned.pop(label, np.zeros(0, bool))
    others = tuple(_drop_of(one, lost, rng) for one, lost in turned.items())
    return Effect(_drop_of(label, own, rng), others, _mean_share(list(turned.values()), rng))


def _drop_of(label: int, turned: Bool[np.ndarray, " n"], rng: np.random.Generator) -> ClassDrop:
    n = len(turned)
    share = share_of(turned, rng) if n else Share(float("nan"), float("nan"), float("nan"))
    low, high = widen_interval(share, n) if n else (0.0, 1.0)
    return ClassDrop(label, n, Share(share.value, low, high), n < THIN)


def _mean_share(turned: list[Bool[np.ndarray, " _"]], rng: np.random.Generator) -> Share:
    """Every class counts alike; the interval is that of all pictures together where no draw would vary."""
    if not turned:
        return Share(float("nan"), float("nan"), float("nan"))
    shares = np.array([one.mean() for one in turned])
    drawn = np.mean([rng.binomial(len(one), one.mean(), 1000) / len(one) for one in turned], axis=0)
    low, high = np.percentile(drawn, [2.5, 97.5], method="nearest")
    n = sum(map(len, turned))
    value = float(shares.mean())
    return Share(value, *widen_interval(Share(value, float(low), float(high)), n))


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, smallest and largest over dictionary seeds."""
    assert len(values), "no seeds"
    return float(np.median(values)), float(min(values)), float(max(values))
