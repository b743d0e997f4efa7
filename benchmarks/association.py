"""Rank correlations within classes, pooled, plain and partial, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

EQUIVALENT = 0.1  # a correlation within this of zero is absent
CENSORED = 1e9  # stands for what is infinite: the largest rank


def pool(correlations: list[float], sizes: list[int], level: float) -> tuple[float, float, float]:
    """Mean correlation with its interval, by Fisher's z."""
    z, weights = np.arctanh(np.clip(correlations, -0.999, 0.999)), np.array(sizes) - 3.0
    mean, half = float(z @ weights / weights.sum()), stats.norm.ppf(0.5 + level / 2) / np.sqrt(weights.sum())
    return float(np.tanh(mean)), float(np.tanh(mean - half)), float(np.tanh(mean + half))


def partial(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> float:
    """Correlation of ranks of x and y, of what those of `given` (n, c) leave of them."""
    ranks = np.stack([stats.rankdata(column) for column in (x, y, *given.T)], 1)
    ranks = (ranks - ranks.mean(0)) / (ranks.std(0) + 1e-12)
    rest = ranks[:, :2] - ranks[:, 2:] @ np.linalg.lstsq(ranks[:, 2:], ranks[:, :2], rcond=None)[0]
    return float(np.corrcoef(rest.T)[0, 1])


def associate(
    x: np.ndarray, y: np.ndarray, given: np.ndarray | None, labels: np.ndarray, level: float
) -> tuple[float, float, float]:
    """Pooled Spearman of x and y within classes, or partial given (n, c), with its interval."""
    correlations, sizes, x = [], [], np.where(np.isfinite(x), x, CENSORED)
    for label in np.unique(labels):
        rows = labels == label
        if np.ptp(x[rows]) == 0 or np.ptp(y[rows]) == 0:
            continue
        rho = float(stats.spearmanr(x[rows], y[rows])[0]) if given is None else partial(x[rows], y[rows], given[rows])
        correlations.append(rho)
        sizes.append(int(rows.sum()) - (0 if given is None else given.shape[1]))
    return pool(correlations, sizes, level)


def judge(value: float, interval: tuple[float, float], tight: tuple[float, float], nulls: Sequence[float]) -> str:
    """*absent* where the 90 % interval is within ±0.1, *there* where the other leaves out zero and nulls are less."""
    if tight[0] > -EQUIVALENT and tight[1] < EQUIVALENT:
        return "absent"
    is_there = (interval[0] > 0 or interval[1] < 0) and not min(nulls) <= value <= max(nulls)
    return "there" if is_there else "not decided"
