"""The fit split in two parts, so that a classifier fitted to one can be judged on the other."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from salve_audit.linear_algebra import factorise

STEP = 5  # every fifth sample of a class is held out
MOST_VALUES = 2**26  # activations of the part held out, about, 512 MB


@dataclass(frozen=True)
class HeldOut:
    """Moments of the part to fit to, samples of the part to judge on.

    Attributes:
        means: (k, d) of the classes; nan where a class has no sample.
        rest_means: (k, d) of the samples of all other classes; nan where there are none.
        solve: Q -> S⁻¹Q, S the shrunk covariance.
        acts, labels: (h, d) and (h,), the part held out.
    """

    means: Float[np.ndarray, "k d"]
    rest_means: Float[np.ndarray, "k d"]
    solve: Callable[[Float[np.ndarray, "d r"]], Float[np.ndarray, "d r"]]
    acts: Float[np.ndarray, "h d"]
    labels: Int[np.ndarray, " h"]


def hold_out(
    acts: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    total: Float[np.ndarray, "d d"],
    share: float,
    n_classes: int,
) -> HeldOut:
    """Holds out every `STEP`-th sample of each class, in the order of the split; fewer of a huge split.

    Args:
        acts: (n, d), n > 0.
        labels: (n,) in 0..n_classes-1.
        total: (d, d), sum of a aᵀ over all samples, so that only the part held out is to be summed.
        share: of a multiple of I in the covariance, see `ridge_solver`.
        n_classes: k.
    """
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=n_classes)
    place = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)  # within the class
    wider = max(STEP, -(-acts.size // MOST_VALUES))
    steps = np.clip(counts, STEP, wider)[labels[order]]
    chosen = np.sort(order[place % steps == steps - 1])
    held, held_labels = np.asarray(acts[chosen], dtype=np.float64), labels[chosen]
    sums = _sums(acts, labels, n_classes) - _sums(held, held_labels, n_classes)
    left = counts - np.bincount(held_labels, minlength=n_classes)  # at least one in every class that has any
    n, everything = int(left.sum()), sums.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / left[:, None]
        rest_means = (everything - sums) / (n - left)[:, None]
    mean = everything / n
    covariance = (total - held.T @ held) / n - np.outer(mean, mean)
    return HeldOut(means, rest_means, ridge_solver(covariance, share), held, held_labels)


def _sums(acts: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], n_classes: int) -> Float[np.ndarray, "k d"]:
    sums = np.zeros((n_classes, acts.shape[1]))
    for index in np.unique(labels):
        sums[index] = np.asarray(acts[labels == index], dtype=np.float64).sum(axis=0)
    return sums


def ridge_solver(
    covariance: Float[np.ndarray, "d d"], share: float
) -> Callable[[Float[np.ndarray, "d r"]], Float[np.ndarray, "d r"]]:
    """Q -> ``((1 − δ) Σ + δ m I)⁻¹ Q`` with m = trace(Σ) / d and δ = `share` in 0..1."""
    from scipy.linalg import cho_solve

    d = len(covariance)
    ridge = max(share * float(np.trace(covariance)) / d, np.finfo(np.float64).tiny)
    factor = (factorise((1.0 - share) * covariance + ridge * np.eye(d)), True)
    inverse = functools.cache(lambda: cho_solve(factor, np.eye(d)))

    def solve(columns: Float[np.ndarray, "d r"]) -> Float[np.ndarray, "d r"]:
        if columns.shape[1] > 1:
            return np.asarray(cho_solve(factor, columns), dtype=np.float64)
        return np.asarray(inverse() @ columns, dtype=np.float64)  # hundreds of single columns are asked for

    return solve
