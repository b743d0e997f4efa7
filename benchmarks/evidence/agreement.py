"""How well a measure's values agree with the truth."""

from __future__ import annotations

import numpy as np
from scipy import stats


def spearman(values: np.ndarray, truth: np.ndarray) -> float:
    """0 where a side has no variation: such a measure ranks nothing."""
    if len(set(values.tolist())) == 1 or len(set(truth.tolist())) == 1:
        return 0.0
    return float(stats.spearmanr(values, truth)[0])


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    n = int(positive.sum())
    if n in (0, len(positive)):
        return float("nan")
    ranks = stats.rankdata(score)
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(positive) - n)))
