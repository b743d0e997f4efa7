"""Strengths at which a class's margin over a rival changes sign under suppression: exact, in blocks.

For one class i the margin over rival k is ``f_k(α) = b_i - b_k + Σ_j (W_i - W_k)_j a_j max(0, 1 - α c_j)``: piecewise
linear with breakpoints 1/c_j. A sample is classified as i where every f_k is positive. Walking over all breakpoints
of all rivals costs n·k·d cumulative sums; instead the sorted coordinates are cut into blocks, f_k is evaluated at
block ends by matrix products, and a block is skipped for a sample when a bound verifies that no sign can change in it.
Inside a block ``f = linear + Σ_m t_m (1 - α c_m)_+``, so with ``P = Σ_{t_m > 0} t_m (1 - α_left c_m)``:

* f > 0 throughout if ``f(right) > 0`` and ``f(left) - P > 0`` (positive terms bounded by 0, negative by their chord);
* f < 0 throughout if ``f(right) < 0`` and ``f(left) + N < 0``, N the same sum over negative terms.

At the last breakpoint, where every weight is gone, only the biases are left. If they tie exactly, the margin vanishes
there and nowhere before: by float64 ``1 - α c`` at ``α = 1/min c`` is 0 for some c (the tie counts as a flip) and one
rounding unit for others (it does not). The evaluation is followed, as the worked cases do; statistics treat both as
right-censored, so nothing depends on it.

What the bounds leave open is resolved on each linear piece, so the result is exact up to float64 rounding.
Strengths are in units of alpha_hat (couplings divided by their maximum), which keeps the arithmetic scale-free.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

BLOCK_SIZE = 32  # coordinates; smaller costs calls, larger leaves more to resolve
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
    sums = 2 * (2 + coupling.n_coupled // BLOCK_SIZE)  # that are held for every pair
    chunk = max(1, min(MAX_PAIRS, MAX_SUMS // sums) // max(1, len(rivals.offset)))
    parts = [
        _BlockWalk(acts[start : start + chunk][:, coupling.order], ordered, coupling).run()
        for start in range(0, max(1, len(acts)), chunk)
    ]
    return MarginEvents(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


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
        self.acts, self.coupling, self.reach = acts, coupling, rivals.reach
        self.lead, self.offset = rivals.lead, rivals.offset
        self.has_negative = bool(acts.min(initial=0.0) < 0)
        self.flip = np.full(len(acts), np.inf)
        self.down: list[Float[np.ndarray, " e"]] = []
        self.up: list[Float[np.ndarray, " e"]] = []

    def run(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(correct, flip, down, up) of this chunk."""
        blocks = [
            slice(start, min(start + BLOCK_SIZE, self.coupling.n_coupled))
            for start in range(0, self.coupling.n_coupled, BLOCK_SIZE)
        ]
        tails = self._suffix_sums(blocks)
        left_alpha, left = 0.0, tails[0][0]  # (n, r)
        correct = np.asarray((left > 0).all(1))
        # rounding of a sum of d terms: below this a sign is not trusted to a bound
        doubt = 1e-12 * np.abs(self.acts).max(1, initial=0.0) * self.reach
        for block, (s0, s1) in zip(blocks, tails[1:], strict=True):
            right_alpha = float(1.0 / self.coupling.relative[block.stop - 1])
            right = s0 - right_alpha * s1
            if block.stop == len(self.coupling.order):
                right += self._remnant()
            linear_left = s0 - left_alpha * s1
            self._walk_block(block, (left_alpha, right_alpha), (left, right, linear_left), (s0, s1), doubt[:, None])
            left_alpha, left = right_alpha, right
        flip = np.where(correct, self.flip, np.nan)
        return correct, flip, _joined(self.down), _joined(self.up)

    def _remnant(self) -> Float[np.ndarray, "n r"] | float:
        """The part of the least coupled coordinates that rounding leaves at the last breakpoint."""
        if not self.coupling.remnant:
            return 0.0
        least = self.coupling.relative == self.coupling.relative[-1]
        return self.coupling.remnant * (self.acts[:, least] @ self.lead[least])

    def _suffix_sums(self, blocks: list[slice]) -> list[tuple[np.ndarray, np.ndarray]]:
        """(S0, S1) over the coordinates from each block's start on, and last those without coupling."""
        rest = slice(self.coupling.n_coupled, None)
        s0 = self.acts[:, rest] @ self.lead[rest] + self.offset
        s1 = np.zeros_like(s0)
        sums = [(s0, s1)]
        for block in reversed(blocks):
            acts, lead = self.acts[:, block], self.lead[block]
            s0 = s0 + acts @ lead
            s1 = s1 + (acts * self.coupling.relative[block]) @ lead
            sums.append((s0, s1))
        return sums[::-1]

    def _walk_block(
        self,
        block: slice,
        alphas: tuple[float, float],
        values: tuple[np.ndarray, np.ndarray, np.ndarray],
        tail: tuple[np.ndarray, np.ndarray],
        doubt: Float[np.ndarray, "n 1"],
    ) -> None:
        left, right, linear_left = values
        slack = 1.0 - alphas[0] * self.coupling.relative[block]  # (1 - α_left c) >= 0
        scaled = self.acts[:, block] * slack
        gain = np.maximum(scaled, 0.0) @ np.maximum(self.lead[block], 0.0)
        if self.has_negative:
            gain += np.minimum(scaled, 0.0) @ np.minimum(self.lead[block], 0.0)
        loss = gain - (left - linear_left)  # Σ over negative terms of |t| (1 - α_left c)
        surely_right = (right > doubt) & (left - gain > doubt)
        surely_wrong = ((right < -doubt) & (left + loss < -doubt)).any(1)
        open_pairs = ~surely_right & ~surely_wrong[:, None]
        if open_pairs.any():
            rows, rivals = np.nonzero(open_pairs)
            for part in _row_parts(rows, MAX_PAIRS // BLOCK_SIZE):
                pairs = (rows[part], rivals[part])
                ends = (left[pairs], right[pairs], tail[0][pairs], tail[1][pairs])
                self._resolve(block, pairs, alphas[0], ends)

    def _resolve(
        self,
        block: slice,
        pairs: tuple[np.ndarray, np.ndarray],
        left_alpha: float,
        ends: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    ) -> None:
        """Exact events of the pairs' samples inside one block; `pairs` are sorted by sample."""
        rows, rivals = pairs
        relative = self.coupling.relative[block]
        alpha = np.concatenate([[left_alpha], 1.0 / relative])  # (p + 1,)
        value = _piece_values(self.acts[rows, block] * self.lead[block].T[rivals], relative, alpha, ends)
        first = np.flatnonzero(np.diff(rows, prepend=-1))  # first pair of each sample
        entry, exit_ = _positive_parts(value, alpha)
        entry = np.maximum.reduceat(entry, first, axis=0)  # (s, p) in alpha
        exit_ = np.minimum.reduceat(exit_, first, axis=0)
        lowest = np.minimum.reduceat(value, first, axis=0)  # (s, p + 1) smallest margin at the breakpoints
        inside = entry < exit_
        falls = inside & ((exit_ < alpha[1:]) | (lowest[:, 1:] <= 0))
        rises = inside & ((entry > alpha[:-1]) | (lowest[:, :-1] <= 0))
        self.down.append(exit_[falls])
        self.up.append(entry[rises])
        samples = rows[first]
        earliest = np.where(falls, exit_, np.inf).min(1)
        self.flip[samples] = np.minimum(self.flip[samples], earliest)


def _piece_values(
    terms: Float[np.ndarray, "q p"],
    relative: Float[np.ndarray, " p"],
    alpha: Float[np.ndarray, " p_plus_1"],
    ends: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> Float[np.ndarray, "q p_plus_1"]:
    """Margins at the block's left end and at each of its breakpoints; both ends as the matrix products gave them."""
    left, right, tail0, tail1 = ends
    value = np.empty((len(terms), len(alpha)))
    value[:, 0], value[:, -1] = left, right
    # terms after breakpoint m, summed from the end: S0 and S1 of the coordinates still active there
    after0 = np.cumsum(terms[:, :0:-1], axis=1)[:, ::-1] + tail0[:, None]
    after1 = np.cumsum((terms * relative)[:, :0:-1], axis=1)[:, ::-1] + tail1[:, None]
    value[:, 1:-1] = after0 - alpha[1:-1] * after1
    return value


def _positive_parts(
    value: Float[np.ndarray, "q p_plus_1"], alpha: Float[np.ndarray, " p_plus_1"]
) -> tuple[Float[np.ndarray, "q p"], Float[np.ndarray, "q p"]]:
    """Interval (entry, exit) of each linear piece where the margin is positive; entry >= exit: nowhere."""
    begin, end = value[:, :-1], value[:, 1:]
    low, high = np.broadcast_to(alpha[:-1], begin.shape), np.broadcast_to(alpha[1:], begin.shape)
    change = begin - end
    crosses = (begin > 0) != (end > 0)
    root = low + (high - low) * np.divide(begin, change, out=np.zeros_like(begin), where=crosses)
    entry = np.where(begin > 0, low, np.where(end > 0, root, np.inf))
    exit_ = np.where(end > 0, high, np.where(begin > 0, root, -np.inf))
    return entry, exit_


def _row_parts(rows: Int[np.ndarray, " q"], limit: int) -> list[slice]:
    """Cuts of the pair list at sample borders, each about `limit` pairs."""
    cuts = [0]
    while cuts[-1] < len(rows):
        stop = min(cuts[-1] + limit, len(rows))
        cuts.append(int(np.searchsorted(rows, rows[stop - 1], side="right")))
    return [slice(a, b) for a, b in itertools.pairwise(cuts)]


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0)
