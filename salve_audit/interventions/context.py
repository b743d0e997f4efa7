"""The methods' input: the head, the class, its feature, and statistics of the fit split."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.interventions.affine import AffineHead
from salve_audit.interventions.holdout import HeldOut, hold_out, ridge_solver
from salve_audit.linear_algebra import decompose_symmetric

BLOCK_ROWS = 4096  # rows cast to float64 at a time while the moments are summed
RELATIVE_RANK = 1e-10  # eigenvalues of the covariance below this share of the largest are rounding of float32 acts


@dataclass(frozen=True)
class FitStatistics:
    """Moments of the fit split's activations, float64, computed once and shared by all methods and classes.

    Attributes:
        n: number of samples.
        mean: (d,) of all samples.
        second_moment: (d, d), C = E[a aᵀ], uncentred.
        fourth_moment: E‖a‖⁴.
        class_means: (k, d); nan where a class has no sample.
        class_counts: (k,).
        acts, labels: (n, d) and (n,), the split itself, for the methods that fit something to it; not a copy.
    """

    n: int
    mean: Float[np.ndarray, " d"]
    second_moment: Float[np.ndarray, "d d"]
    fourth_moment: float
    class_means: Float[np.ndarray, "k d"]
    class_counts: Int[np.ndarray, " k"]
    acts: Float[np.ndarray, "n d"]
    labels: Int[np.ndarray, " n"]

    @functools.cached_property
    def shrinkage(self) -> float:
        """The share δ of ``m I``, m = trace(C) / d, that should bring C nearest to the second moment behind the sample.

        ``δ = (E‖a aᵀ − C‖² / n) / ‖C − m I‖²``, in 0..1: the sampling noise of C against its distance from m I
        (Ledoit and Wolf, J. Multivariate Analysis 88, 2004, for a known mean of 0). Chosen by the data alone, not by
        how any edit fares. At least `RELATIVE_RANK`, so that dead coordinates do not make C singular.
        """
        size, d = float((self.second_moment**2).sum()), self.mean.shape[0]
        noise = (self.fourth_moment - size) / self.n
        distance = size - float(np.trace(self.second_moment)) ** 2 / d
        return min(1.0, max(noise / distance, RELATIVE_RANK)) if distance > 0 else 1.0

    @functools.cached_property
    def solve_second_moment(self) -> Callable[[Float[np.ndarray, " d"]], Float[np.ndarray, " d"]]:
        """q -> ``((1 − δ) C + δ m I)⁻¹ q`` with the `shrinkage` δ."""
        solve = ridge_solver(self.second_moment, self.shrinkage)
        return lambda key: solve(key[:, None])[:, 0]

    @functools.cached_property
    def solve_covariance(self) -> Callable[[Float[np.ndarray, "d r"]], Float[np.ndarray, "d r"]]:
        """Q -> ``((1 − δ) Σ + δ m I)⁻¹ Q``, Σ = C − μμᵀ, m = trace(Σ) / d, with the `shrinkage` δ of C."""
        return ridge_solver(self.second_moment - np.outer(self.mean, self.mean), self.shrinkage)

    def mean_difference(self, class_index: int) -> Float[np.ndarray, " d"]:
        """Mean of the class less mean of all other samples, (d,); zeros where one of them has no sample."""
        n_class = int(self.class_counts[class_index])
        if not 0 < n_class < self.n:
            return np.zeros_like(self.mean)
        own = self.class_means[class_index]
        return (own - self.mean) * (self.n / (self.n - n_class))

    @functools.cached_property
    def held_out(self) -> HeldOut:
        """The split in two parts, one to fit classifiers to and one to judge them on."""
        return hold_out(self.acts, self.labels, self.n * self.second_moment, self.shrinkage, len(self.class_counts))

    @functools.cached_property
    def covariance_pinv(self) -> Float[np.ndarray, "d d"]:
        """Pseudo-inverse of the covariance Σ = C − μμᵀ, (d, d)."""
        values, vectors = decompose_symmetric(self.second_moment - np.outer(self.mean, self.mean))
        significant = values > RELATIVE_RANK * max(float(values[-1]), 0.0)
        basis = vectors[:, significant]
        return (basis / values[significant]) @ basis.T

    def cross_covariance(self, class_index: int) -> Float[np.ndarray, " d"]:
        """Covariance of the activations with the indicator of one class, (d,): ``p (μ_class − μ)``."""
        share = self.class_counts[class_index] / self.n
        return share * (self.class_means[class_index] - self.mean)


def compute_fit_statistics(
    acts: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], n_classes: int
) -> FitStatistics:
    """Moments of the activations, summed in float64 by blocks so that memory-mapped ones are never copied whole.

    Args:
        acts: (n, d) of the fit split, n > 0.
        labels: (n,) in 0..n_classes-1.
        n_classes: k.
    """
    n, d = acts.shape
    assert n > 0, "the fit split is empty"
    second, sums, fourth = np.zeros((d, d)), np.zeros((n_classes, d)), 0.0
    for start in range(0, n, BLOCK_ROWS):
        block = np.asarray(acts[start : start + BLOCK_ROWS], dtype=np.float64)  # (rows, d)
        second += block.T @ block
        fourth += float(((block**2).sum(axis=1) ** 2).sum())
        np.add.at(sums, labels[start : start + BLOCK_ROWS], block)
    counts = np.bincount(labels, minlength=n_classes)
    with np.errstate(invalid="ignore"):
        class_means = sums / counts[:, None]
    return FitStatistics(n, sums.sum(axis=0) / n, second / n, fourth / n, class_means, counts, acts, labels)


@dataclass(frozen=True)
class EditContext:
    """All that a method needs to edit one class.

    Attributes:
        head: the head to edit, float64; not changed by any method.
        class_index: the class to suppress.
        feature: the latent that latent-based methods act on.
        dominant: (k,) dominant latent of every class.
        dictionary: (m, d), one decoder direction per row.
        mean_codes: (k, m), mean code of every class on the fit split.
        alive: (m,) which latents fire on the fit split; the rows of the others mean nothing.
        fit: moments of the fit split.
        key: (d,), the activation that ROME rewrites.
        rng: for the methods with a random choice; the same seed gives the same intervention.
    """

    head: AffineHead
    class_index: int
    feature: int
    dominant: Int[np.ndarray, " k"]
    dictionary: Float[np.ndarray, "m d"]
    mean_codes: Float[np.ndarray, "k m"]
    alive: Bool[np.ndarray, " m"]
    fit: FitStatistics
    key: Float[np.ndarray, " d"]
    rng: np.random.Generator

    @property
    def direction(self) -> Float[np.ndarray, " d"]:
        """The latent's dictionary row D_l, (d,) float64."""
        return np.asarray(self.dictionary[self.feature], dtype=np.float64)

    @property
    def coupling(self) -> Float[np.ndarray, " d"]:
        """c = |D_l|, (d,)."""
        return np.abs(self.direction)


def float64_head(head: LinearHead) -> AffineHead:
    """The classifier's head in the arithmetic of the edits."""
    return AffineHead(head.weight.astype(np.float64), head.bias.astype(np.float64))
