"""Samples recognised under an edit that is linear in its strength, from a few rivals per sample.

Margins are then linear in the strength t, so that a sample is recognised on an open interval of strengths, its window,
which is known once for all strengths. Of a thousand rivals only a few can win: the window is worked out from the
`depth` strongest rivals (by the original logits) and from every class that the edit touches where those are few. All
other rivals have a logit of at most that of the next strongest one plus t times the largest shift of any class. Where
the sample stays above that on its whole window (both are linear in t, so the two ends suffice), the window is exact;
where not, the sample is worked out again with more rivals, at last with all. Nothing is left to chance.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from salve_audit.interventions.affine import LinearEdit
from salve_audit.reliance.crossings import Windows, bound_windows, inside_windows

DEPTHS = (4, 16)  # rivals per sample, then all
FEW_CLASSES = 32  # up to so many touched classes are all looked at
GRID = 257  # points at which the largest shift is worked out; between them its chords lie above it
BLOCK_VALUES = 1 << 20
DOUBT = 1e-9  # relative; a bound that holds by less is not trusted


@dataclass(frozen=True)
class Rivals:
    """The strongest wrong classes of every sample.

    Attributes:
        own: (n,) logit of the label.
        index: (r, n), strongest first.
        logits: (r, n), theirs: gathered once, as they lie far apart in the logits of all classes.
        beyond: (r, n), row i: the largest logit of any wrong class weaker than rival i; -inf where there is none.
    """

    own: Float[np.ndarray, " n"]
    index: Int[np.ndarray, "r n"]
    logits: Float[np.ndarray, "r n"]
    beyond: Float[np.ndarray, "r n"]


def find_rivals(logits: Float[np.ndarray, "k n"], labels: Int[np.ndarray, " n"]) -> Rivals:
    """The `DEPTHS` strongest rivals of every sample; `beyond` row i is the logit of rival i + 1."""
    k, n = logits.shape
    depth = min(max(DEPTHS), k - 1)
    own, index, strongest = np.empty(n), np.empty((depth, n), dtype=np.intp), np.empty((depth + 1, n))
    step = max(1, BLOCK_VALUES // k)
    for start in range(0, n, step):
        block = logits[:, start : start + step].copy()  # (k, rows)
        columns = np.arange(block.shape[1])
        own[start : start + step] = block[labels[start : start + step], columns]
        block[labels[start : start + step], columns] = -np.inf
        top = np.argpartition(-block, min(depth, k - 1), axis=0)[: depth + 1]
        values = np.take_along_axis(block, top, axis=0)
        order = np.argsort(-values, axis=0, kind="stable")
        top, values = np.take_along_axis(top, order, axis=0), np.take_along_axis(values, order, axis=0)
        index[:, start : start + step] = top[:depth]
        strongest[:, start : start + step] = values
    return Rivals(own, index, strongest[:-1], strongest[1:])


class Margins:
    """Logits and their shifts per unit of strength, of chosen classes on chosen samples."""

    def __init__(
        self,
        logits: Float[np.ndarray, "k n"],
        labels: Int[np.ndarray, " n"],
        edit: LinearEdit,
        reach: Float[np.ndarray, "r n"] | None,
    ) -> None:
        self.logits, self.labels, self.edit, self.reach = logits, labels, edit, reach
        touched = np.flatnonzero(edit.left.any(axis=1) | (edit.bias != 0))
        self.touched = touched if len(touched) <= FEW_CLASSES and len(touched) < len(logits) else None

    @functools.cached_property
    def own_shift(self) -> Float[np.ndarray, " n"]:
        """Shift of every sample's own class."""
        return self.shift(self.labels[None, :], np.arange(len(self.labels)))[0]

    @functools.cached_property
    def touched_shift(self) -> Float[np.ndarray, "some n"]:
        """Shifts of the few touched classes, and last a row of zeros for all others."""
        assert self.touched is not None, "too many classes are touched"
        shift = np.zeros((len(self.touched) + 1, self.logits.shape[1]))
        if self.reach is not None:
            shift[:-1] = self.edit.left[self.touched] @ self.reach
        shift[:-1] += self.edit.bias[self.touched, None]
        return shift

    @functools.cached_property
    def place(self) -> Int[np.ndarray, " k"]:
        """Row of every class in `touched_shift`."""
        assert self.touched is not None, "too many classes are touched"
        place = np.full(len(self.logits), len(self.touched))
        place[self.touched] = np.arange(len(self.touched))
        return place

    def shift(self, classes: Int[np.ndarray, "c rows"], rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "c rows"]:
        """Shift of each class on the sample of its column."""
        if self.touched is not None:
            few: np.ndarray = self.touched_shift[self.place[classes], rows]
            return few
        total = self.edit.bias[classes]
        if self.reach is not None:
            for left, reach in zip(self.edit.left.T, self.reach, strict=True):
                total = total + left[classes] * reach[rows]
        return total

    @functools.cached_property
    def largest_shift(self) -> Float[np.ndarray, " n"]:
        """No class that `windows` may leave out shifts by more, (n,)."""
        n = self.logits.shape[1]
        if self.touched is not None:
            return np.zeros(n)
        if self.reach is None:
            return np.full(n, self.edit.bias.max())
        if len(self.reach) > 1:  # Cauchy and Schwarz
            longest = float(np.linalg.norm(self.edit.left, axis=1).max())
            return float(self.edit.bias.max()) + longest * np.linalg.norm(self.reach, axis=0)
        reach = self.reach[0]
        grid = np.linspace(reach.min(), reach.max(), GRID)
        # The largest of lines is convex: between two points of the grid it lies below its chord.
        return np.interp(reach, grid, (np.outer(grid, self.edit.left[:, 0]) + self.edit.bias).max(axis=1))


def recognised(margins: Margins, rivals: Rivals, strengths: Float[np.ndarray, " s"]) -> Bool[np.ndarray, "s n"]:
    """True where the label's logit is strictly above every other at these strengths >= 0; ties count as wrong."""
    return inside_windows(find_windows(margins, rivals, float(strengths.max(initial=0.0))), strengths)


def find_windows(margins: Margins, rivals: Rivals, limit: float) -> Windows:
    """Bounds (n,) of every sample's window, exact where it meets the strengths 0..limit; empty: low >= high."""
    n = len(margins.labels)
    low, high = np.empty(n), np.empty(n)
    rows = np.arange(n)
    if not len(rivals.index):  # nobody to lose to
        return np.full(n, -np.inf), np.full(n, np.inf)
    for depth in sorted({*(d for d in DEPTHS if d <= len(rivals.index)), len(rivals.index)}):
        if rows.size:
            some = slice(None) if rows.size == n else rows  # a slice copies nothing
            ranked = (rivals.index[:depth, some], rivals.logits[:depth, some])
            low[rows], high[rows] = _ranked(margins, rivals.own[rows], ranked, rows)
            lead = (rivals.own[rows], rivals.beyond[depth - 1, rows])
            rows = rows[~_verified(margins, lead, (low[rows], high[rows]), rows, limit)]
    for part in _parts(rows, len(margins.logits)):
        everyone = np.repeat(np.arange(len(margins.logits))[:, None], len(part), axis=1)
        low[part], high[part] = _ranked(margins, rivals.own[part], (everyone, margins.logits[:, part]), part)
    return low, high


def _ranked(
    margins: Margins,
    own: Float[np.ndarray, " rows"],
    ranked: tuple[Int[np.ndarray, "c rows"], Float[np.ndarray, "c rows"]],
    rows: Int[np.ndarray, " rows"],
) -> Windows:
    """The windows as far as these classes, given with their logits, and the touched ones where few, decide."""
    classes, base = ranked
    if margins.touched is not None:
        touched = np.repeat(margins.touched[:, None], len(rows), axis=1)
        classes, base = np.concatenate([classes, touched]), np.concatenate([base, margins.logits[touched, rows]])
    margin = own - base
    slope = margins.own_shift[rows] - margins.shift(classes, rows)
    itself = classes == margins.labels[rows]
    margin[itself], slope[itself] = 1.0, 0.0
    return bound_windows(margin, slope)


def _verified(
    margins: Margins,
    lead: tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]],
    window: Windows,
    rows: Int[np.ndarray, " rows"],
    limit: float,
) -> Bool[np.ndarray, " rows"]:
    """True where no class beyond the ranked ones (`lead`: own logit, largest beyond) comes near in 0..limit."""
    base, beyond = lead
    shift, largest = margins.own_shift[rows], margins.largest_shift[rows]
    start, stop = np.maximum(window[0], 0.0), np.minimum(window[1], limit)
    verified = (start > stop) | (window[0] >= window[1]) | np.isneginf(beyond)
    clear = np.ones(len(rows), dtype=bool)
    with np.errstate(invalid="ignore"):
        for t in (start, stop):
            gap = (base + t * shift) - (beyond + t * largest)
            size = np.abs(base) + np.abs(beyond) + t * (np.abs(shift) + np.abs(largest))
            clear &= gap > DOUBT * size
    return verified | clear


def _parts(rows: Int[np.ndarray, " rows"], n_classes: int) -> Iterator[Int[np.ndarray, " some"]]:
    step = max(1, BLOCK_VALUES // n_classes)
    return (rows[start : start + step] for start in range(0, len(rows), step))
