"""Strengths at which a class's margin over a rival changes sign under suppression: exact, in blocks.

For one class i the margin over rival k is ``f_k(α) = b_i - b_k + Σ_j (W_i - W_k)_j a_j max(0, 1 - α c_j)``: piecewise
linear with breakpoints 1/c_j. A sample is classified as i where every f_k is positive. Walking over all breakpoints
of all rivals costs n·k·d cumulative sums; instead the sorted coordinates are cut into blocks, f_k is evaluated at
block ends by matrix products, and a block is skipped for a sample when a bound verifies that no sign can change in it.
Inside a block ``f = linear + Σ_m t_m (1 - α c_m)_+``, so with ``P = Σ_{t_m > 0} t_m (1 - α_left c_m)``:

* f > 0 throughout if ``f(right) > 0`` and ``f(left) - P > 0`` (positive terms bounded by 0, negative by their chord);
* f < 0 throughout if ``f(right) < 0`` and ``f(left) + N < 0``, N the same sum over negative terms.

Wide blocks come first, of all rivals; narrow ones only of the samples and rivals that a wide one leaves open.

At the last breakpoint, where every weight is gone, only the biases are left. If they tie exactly, the margin vanishes
there and nowhere before: by float64 ``1 - α c`` at ``α = 1/min c`` is 0 for some c (the tie counts as a flip) and one
rounding unit for others (it does not). The evaluation is followed, as the worked cases do; statistics treat both as
right-censored, so nothing depends on it.

What the bounds leave open is resolved on each linear piece, so the result is exact up to float64 rounding.
Strengths are in units of alpha_hat (couplings divided by their maximum), which keeps the arithmetic scale-free.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from salve_audit.reliance.pieces import piece_values, positive_parts, row_parts

WIDE, MIDDLE, NARROW = 256, 32, 4  # coordinates of a block; smaller costs calls, larger leaves more to resolve
MANY_PAIRS = 4096  # for which the wide blocks, and the narrow ones, are worth their calls
MAX_PAIRS = 2_000_000  # (sample, rival) pairs held at once: bounds memory at any n and k
MAX_SUMS = 2**26  # of these in all blocks, 512 MB; several classes are worked on at a time
TINY = 1e-290  # relative couplings below this clamp at no strength that float64 can hold


@dataclass(frozen=True)
class MarginEvents:
    """Sign changes of the smallest margin, in alpha_hat.

    Attributes:
        correct: (n,) the sample is classified as the target at strength 0 (ties count as wrong).
        flip: (n,) first strength at which it no longer is; inf: never; nan: not correct at 0.
        down: strengths at which some sample stops being correct (it is wrong at the strength itself).
        up: strengths after which some sample becomes correct (it is still wrong at the strength itself).
    """

    correct: Bool[np.ndarray, " n"]
    flip: Float[np.ndarray, " n"]
    down: Float[np.ndarray, " n_down"]
    up: Float[np.ndarray, " n_up"]


@dataclass(frozen=True)
class SortedCoupling:
    """Coordinates by falling relative coupling; those with (nearly) none are never clamped and come last."""

    order: Int[np.ndarray, " d"]
    relative: Float[np.ndarray, " d"]  # in 0..1, sorted
    n_coupled: int
    remnant: float  # what float64 leaves of 1 - α c at α = 1/min c, where every coordinate is coupled

    @property
    def breakpoints(self) -> Float[np.ndarray, " n_coupled"]:
        """Strengths alpha_hat at which one more coordinate is fully suppressed, rising, from 1."""
        return 1.0 / self.relative[: self.n_coupled]


def relative_coupling(coupling: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
    """Couplings as shares of the largest, c / max c; zeros where nothing is coupled."""
    top = coupling.max(initial=0.0)
    return coupling / top if top > 0 else np.zeros_like(coupling)


def sort_coupling(coupling: Float[np.ndarray, " d"]) -> SortedCoupling:
    """The couplings in the order in which suppression exhausts them."""
    relative = relative_coupling(coupling)
    relative = np.where(relative < TINY, 0.0, relative)
    order = np.argsort(-relative, kind="stable")
    least = coupling.min(initial=np.inf)
    remnant = max(0.0, 1.0 - (1.0 / least) * least) if relative.all() and len(coupling) else 0.0
    return SortedCoupling(order, relative[order], int(np.count_nonzero(relative)), float(remnant))


@dataclass(frozen=True)
class Rivals:
    """A class's lead over every other one, prepared once for any number of couplings.

    Attributes:
        lead: (d, r) own weights minus the rival's. A block of coordinates is contiguous this way round; (r, d) with d a
            power of two thrashes the cache.
        offset: (r,) own bias minus the rival's.
        reach: largest sum of a rival's absolute leads: what rounding errors are relative to.
    """

    lead: Float[np.ndarray, "d r"]
    offset: Float[np.ndarray, " r"]
    reach: float


def list_rivals(weight: Float[np.ndarray, "k d"], bias: Float[np.ndarray, " k"], target: int) -> Rivals:
    """The rivals of class `target`; float64 throughout. Fast where `weight` lies in memory by columns."""
    columns = weight.T
    lead = np.ascontiguousarray(columns[:, [target]] - np.delete(columns, target, axis=1))
    return Rivals(lead, bias[target] - np.delete(bias, target), float(np.abs(lead).sum(0).max(initial=0.0)))


def find_margin_events(acts: Float[np.ndarray, "n d"], rivals: Rivals, coupling: SortedCoupling) -> MarginEvents:
    """All sign changes of every sample's smallest margin over the rivals of its class; float64 throughout."""
    ordered = Rivals(rivals.lead[coupling.order], rivals.offset, rivals.reach)
    sums = 2 * (2 + coupling.n_coupled // MIDDLE)  # that are held for every pair
    chunk = max(1, min(MAX_PAIRS, MAX_SUMS // sums) // max(1, len(rivals.offset)))
    parts = [
        _BlockWalk(acts[start : start + chunk][:, coupling.order], ordered, coupling).run()
        for start in range(0, max(1, len(acts)), chunk)
    ]
    return MarginEvents(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


Sums = tuple[Float[np.ndarray, "n r"], Float[np.ndarray, "n r"]]  # S0 and S1, see `_BlockWalk`


@dataclass(frozen=True)
class _Ends:
    """Strength where a block begins, and margins there and where it ends."""

    left_alpha: float
    left: Float[np.ndarray, "n r"]
    right: Float[np.ndarray, "n r"]


@dataclass(frozen=True)
class _Pairs:
    """Samples and rivals that are looked at together.

    Attributes:
        acts: (n, d) of the samples, in the order of the coupling; of a block alone in a narrow walk.
        lead: (d, r) over the rivals.
        doubt: (n, 1) rounding of a sum of d terms: below this a sign is not trusted to a bound.
        samples: (n,) which of the walk's samples they are.
        first: coordinate that `acts` and `lead` begin with.
    """

    acts: Float[np.ndarray, "n d"]
    lead: Float[np.ndarray, "d r"]
    doubt: Float[np.ndarray, "n 1"]
    samples: Int[np.ndarray, " n"]
    first: int = 0

    def of(self, block: slice) -> tuple[Float[np.ndarray, "n p"], Float[np.ndarray, "p r"]]:
        """Activations and leads of some coordinates."""
        own = slice(block.start - self.first, block.stop - self.first)
        return self.acts[:, own], self.lead[own]

    def take(self, block: slice, rows: Int[np.ndarray, " s"], rivals: Int[np.ndarray, " q"]) -> _Pairs:
        """Some of them, for a block alone."""
        acts, lead = self.of(block)
        return _Pairs(acts[rows], lead[:, rivals], self.doubt[rows], self.samples[rows], block.start)


class _BlockWalk:
    """One pass over the blocks from strength 0 upwards, for one chunk of samples.

    Suffix sums over the coordinates that are not yet exhausted, S0 = Σ t and S1 = Σ c t, give
    ``f(α) = S0 - α S1`` on the segment; they are summed from the end so that "all weights gone" is exactly the bias.
    """

    def __init__(
        self,
        acts: Float[np.ndarray, "n d"],
        rivals: Rivals,
        coupling: SortedCoupling,
    ) -> None:
        doubt = 1e-12 * np.abs(acts).max(1, initial=0.0) * rivals.reach
        self.pairs = _Pairs(acts, rivals.lead, doubt[:, None], np.arange(len(acts)))
        self.offset, self.coupling = rivals.offset, coupling
        self.has_negative = bool(acts.min(initial=0.0) < 0)
        self.flip = np.full(len(acts), np.inf)
        self.down: list[Float[np.ndarray, " e"]] = []
        self.up: list[Float[np.ndarray, " e"]] = []

    def run(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(correct, flip, down, up) of this chunk."""
        rest = slice(self.coupling.n_coupled, None)
        s0 = self.pairs.acts[:, rest] @ self.pairs.lead[rest] + self.offset
        start = self._walk(
            self.pairs, slice(0, rest.start), WIDE if s0.size > MANY_PAIRS else MIDDLE, (s0, np.zeros_like(s0))
        )
        correct = np.asarray((start > 0).all(1))
        flip = np.where(correct, self.flip, np.nan)
        return correct, flip, _joined(self.down), _joined(self.up)

    def _walk(
        self, pairs: _Pairs, span: slice, size: int, after: Sums, ends: _Ends | None = None
    ) -> Float[np.ndarray, "n r"]:
        """Walks over the blocks of a span of coordinates; the margins where it begins.

        Args:
            pairs: samples and rivals.
            span: of the coordinates.
            size: of a block.
            after: sums over the coordinates after the span.
            ends: of a narrow walk, those of the wide block; None: the span is that of all coupled coordinates.
        """
        blocks = [slice(start, min(start + size, span.stop)) for start in range(span.start, span.stop, size)]
        tails = self._suffix_sums(pairs, blocks, after)
        left_alpha, first = (0.0, tails[0][0]) if ends is None else (ends.left_alpha, ends.left)
        left = first
        for block, (s0, s1) in zip(blocks, tails[1:], strict=True):
            right_alpha = float(1.0 / self.coupling.relative[block.stop - 1])
            right = s0 - right_alpha * s1
            if block.stop == span.stop and ends is not None:
                right = ends.right
            elif block.stop == len(self.coupling.order):
                right += self._remnant(pairs)
            opened = self._find_open(pairs, block, left_alpha, (left, right, s0 - left_alpha * s1))
            n_open = int(np.count_nonzero(opened))
            if n_open and (size == WIDE or (size == MIDDLE and n_open > MANY_PAIRS)):
                rows, rivals = np.flatnonzero(opened.any(1)), np.flatnonzero(opened.any(0))
                at = np.ix_(rows, rivals)
                within = _Ends(left_alpha, left[at], right[at])
                self._walk(
                    pairs.take(block, rows, rivals), block, MIDDLE if size == WIDE else NARROW, (s0[at], s1[at]), within
                )
            elif n_open:
                self._resolve_all(pairs, block, left_alpha, opened, (left, right, s0, s1))
            left_alpha, left = right_alpha, right
        return first

    def _remnant(self, pairs: _Pairs) -> Float[np.ndarray, "n r"] | float:
        """The part of the least coupled coordinates that rounding leaves at the last breakpoint."""
        if not self.coupling.remnant:
            return 0.0
        least = self.coupling.relative == self.coupling.relative[-1]
        return self.coupling.remnant * (pairs.acts[:, least] @ pairs.lead[least])

    def _suffix_sums(self, pairs: _Pairs, blocks: list[slice], after: Sums) -> list[Sums]:
        """(S0, S1) over the coordinates from each block's start on, and last those after all blocks."""
        s0, s1 = after
        sums = [after]
        for block in reversed(blocks):
            acts, lead = pairs.of(block)
            s0 = s0 + acts @ lead
            s1 = s1 + (acts * self.coupling.relative[block]) @ lead
            sums.append((s0, s1))
        return sums[::-1]

    def _find_open(
        self, pairs: _Pairs, block: slice, left_alpha: float, values: tuple[np.ndarray, np.ndarray, np.ndarray]
    ) -> Bool[np.ndarray, "n r"]:
        """Pairs of which no bound verifies a sign all over the block, of samples of which none is surely wrong there.

        Args:
            pairs: samples and rivals.
            block: of the coordinates.
            left_alpha: strength where it begins.
            values: margins at its left end and at its right one, and those that its coordinates have no part in.
        """
        left, right, linear_left = values
        slack = 1.0 - left_alpha * self.coupling.relative[block]  # (1 - α_left c) >= 0
        (acts, lead), doubt = pairs.of(block), pairs.doubt
        scaled = acts * slack
        gain = np.maximum(scaled, 0.0) @ np.maximum(lead, 0.0)
        if self.has_negative:
            gain += np.minimum(scaled, 0.0) @ np.minimum(lead, 0.0)
        surely_right = (right > doubt) & (left - gain > doubt)
        if surely_right.all():
            return ~surely_right
        loss = gain - (left - linear_left)  # Σ over negative terms of |t| (1 - α_left c)
        surely_wrong = ((right < -doubt) & (left + loss < -doubt)).any(1)
        return ~surely_right & ~surely_wrong[:, None]

    def _resolve_all(
        self,
        pairs: _Pairs,
        block: slice,
        left_alpha: float,
        opened: Bool[np.ndarray, "n r"],
        values: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    ) -> None:
        rows, rivals = np.nonzero(opened)
        for part in row_parts(rows, MAX_PAIRS // MIDDLE):
            chosen = (rows[part], rivals[part])
            self._resolve(pairs, block, chosen, left_alpha, tuple(value[chosen] for value in values))

    def _resolve(
        self,
        pairs: _Pairs,
        block: slice,
        chosen: tuple[np.ndarray, np.ndarray],
        left_alpha: float,
        ends: tuple[np.ndarray, ...],
    ) -> None:
        """Exact events of the chosen pairs' samples inside one block; they are sorted by sample."""
        rows, rivals = chosen
        relative = self.coupling.relative[block]
        alpha = np.concatenate([[left_alpha], 1.0 / relative])  # (p + 1,)
        acts, lead = pairs.of(block)
        value = piece_values(acts[rows] * lead.T[rivals], relative, alpha, ends)
        first = np.flatnonzero(np.diff(rows, prepend=-1))  # first pair of each sample
        entry, exit_ = positive_parts(value, alpha)
        entry = np.maximum.reduceat(entry, first, axis=0)  # (s, p) in alpha
        exit_ = np.minimum.reduceat(exit_, first, axis=0)
        lowest = np.minimum.reduceat(value, first, axis=0)  # (s, p + 1) smallest margin at the breakpoints
        inside = entry < exit_
        falls = inside & ((exit_ < alpha[1:]) | (lowest[:, 1:] <= 0))
        rises = inside & ((entry > alpha[:-1]) | (lowest[:, :-1] <= 0))
        self.down.append(exit_[falls])
        self.up.append(entry[rises])
        samples = pairs.samples[rows[first]]
        earliest = np.where(falls, exit_, np.inf).min(1)
        self.flip[samples] = np.minimum(self.flip[samples], earliest)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0)
