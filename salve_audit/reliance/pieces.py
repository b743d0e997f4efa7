"""Margins on every linear piece of a block, and where they are positive; see `margins`."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float, Int


def piece_values(
    terms: Float[np.ndarray, "q p"],
    relative: Float[np.ndarray, " p"],
    alpha: Float[np.ndarray, " p_plus_1"],
    ends: tuple[np.ndarray, ...],
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


def positive_parts(
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


def row_parts(rows: Int[np.ndarray, " q"], limit: int) -> list[slice]:
    """Cuts of the pair list at sample borders, each about `limit` pairs."""
    cuts = [0]
    while cuts[-1] < len(rows):
        stop = min(cuts[-1] + limit, len(rows))
        cuts.append(int(np.searchsorted(rows, rows[stop - 1], side="right")))
    return [slice(a, b) for a, b in itertools.pairwise(cuts)]
