"""Intervals of shares in closed form, for many shares at once."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

Z95 = float(stats.norm.ppf(0.975))


def wilson_bounds(
    share: Float[np.ndarray, "*shape"], n: Float[np.ndarray, "*shape"]
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """95 % Wilson intervals of shares out of `n`; `n` may be an effective, uneven number."""
    n = np.maximum(n, 1e-9)
    center = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    return np.clip(center - half, 0.0, share), np.clip(center + half, share, 1.0)


def mean_bounds(
    shares: Float[np.ndarray, "s k"], counts: Int[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """Mean over k classes of their shares with its 95 % interval.

    Wilson's interval at the effective sample size ``m (1 − m) / Var``, with the variance of a mean of independent
    shares; all samples where no class varies.
    """
    mean = shares.mean(axis=1)
    variance = (shares * (1 - shares) / counts).sum(axis=1) / len(counts) ** 2
    plenty = np.full_like(mean, float(counts.sum()))
    effective = np.divide(mean * (1 - mean), variance, out=plenty, where=variance > 0)
    low, high = wilson_bounds(mean, effective)
    return mean, low, high


def change_bounds(
    lost: Int[np.ndarray, "*shape"], gained: Int[np.ndarray, "*shape"], n: Int[np.ndarray, "*shape"], n_tests: int = 1
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """Interval of the change of a share on the same `n` samples, at 95 % for `n_tests` of them together (Bonferroni).

    Source: Bonett and Price, J. Educational and Behavioral Statistics 37, 2012 (adjusted Wald, paired proportions).
    """
    z = float(stats.norm.ppf(1 - 0.025 / n_tests))
    down, up = (lost + 1) / (n + 2), (gained + 1) / (n + 2)
    half = z * np.sqrt((down + up - (up - down) ** 2) / (n + 2))
    return up - down - half, up - down + half
