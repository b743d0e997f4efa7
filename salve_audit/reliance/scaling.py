"""Accuracies of the head with its weights scaled by a feature's coupling: curves, effects, redundancy.

All from cached activations. A strength costs one matrix product: of the weights, scaled, or, where there are fewer
samples than classes, of the scaled activations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int

from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.reliance.margins import relative_coupling

BLOCK_ROWS = 16_384  # whose logits are held at a time


@dataclass(frozen=True)
class Samples:
    """Audit samples with the head they are judged by.

    Attributes:
        acts: (n, d) float32.
        labels: (n,) class indices.
        head: the original head.
    """

    acts: Float[np.ndarray, "n d"]
    labels: npt.NDArray[np.integer]
    head: LinearHead

    def at_most(self, n: int) -> Samples:
        """These samples, or about `n` of them, the same share of every class."""
        if len(self.labels) <= n:
            return self
        order = np.argsort(self.labels, kind="stable")
        rows = np.sort(order[np.linspace(0, len(order) - 1, max(1, n)).astype(np.intp)])
        return Samples(np.asarray(self.acts[rows]), self.labels[rows], self.head)

    def of_class(self, index: int) -> Samples:
        """The samples of one class."""
        rows = np.flatnonzero(self.labels == index)
        return Samples(np.asarray(self.acts[rows]), self.labels[rows], self.head)


def suppressing(coupling: Float[np.ndarray, " d"], alpha_hat: float) -> Float[np.ndarray, " d"]:
    """Column factors ``max(0, 1 - α c)`` with α̂ = α max c."""
    return np.maximum(0.0, 1.0 - alpha_hat * relative_coupling(coupling))


def enhancing(coupling: Float[np.ndarray, " d"], alpha_hat: float) -> Float[np.ndarray, " d"]:
    """Column factors ``1 + α c`` with α̂ = α max c."""
    return 1.0 + alpha_hat * relative_coupling(coupling)


def correct_under(samples: Samples, factors: Float[np.ndarray, " d"]) -> npt.NDArray[np.bool_]:
    """(n,) True where a sample's own logit is above every other after the columns are scaled; ties count as wrong."""
    factors = factors.astype(np.float32)
    few = len(samples.labels) < samples.head.n_classes
    weight = samples.head.weight if few else samples.head.weight * factors
    correct = np.empty(len(samples.labels), dtype=bool)
    for start in range(0, len(correct), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        acts = np.asarray(samples.acts[part], dtype=np.float32)
        logits = (acts * factors if few else acts) @ weight.T + samples.head.bias
        rows, labels = np.arange(len(logits)), samples.labels[part]
        own = logits[rows, labels].copy()
        logits[rows, labels] = -np.inf
        correct[part] = own > logits.max(1, initial=-np.inf)
    return correct


def class_accuracy(
    correct: npt.NDArray[np.bool_], labels: npt.NDArray[np.integer], n_classes: int
) -> Float[np.ndarray, " k"]:
    """Accuracy of every class; NaN where it has no samples."""
    counts = np.bincount(labels, minlength=n_classes).astype(np.float64)
    hits = np.bincount(labels, weights=correct, minlength=n_classes)
    return np.divide(hits, counts, out=np.full(n_classes, np.nan), where=counts > 0)


@dataclass(frozen=True)
class SuppressionCurve:
    """Accuracy of one class and mean accuracy of the others at each strength."""

    alpha_hat: Float[np.ndarray, " s"]
    accuracy: Float[np.ndarray, " s"]
    others: Float[np.ndarray, " s"]


def trace_curve(
    samples: Samples, index: int, coupling: Float[np.ndarray, " d"], strengths: Float[np.ndarray, " s"]
) -> SuppressionCurve:
    """Suppression curve of class `index` over the given α̂, on all samples."""
    rows = []
    for strength in strengths:
        correct = correct_under(samples, suppressing(coupling, float(strength)))
        accuracy = class_accuracy(correct, samples.labels, samples.head.n_classes)
        others = np.delete(accuracy, index)
        others = others[~np.isnan(others)]
        rows.append((accuracy[index], others.mean() if len(others) else np.nan))
    values = np.array(rows)
    return SuppressionCurve(strengths, values[:, 0], values[:, 1])


def count_redundancy(
    samples: Samples, dictionary: Float[np.ndarray, "m d"], order: Int[np.ndarray, " o"], limit: int
) -> int | None:
    """Number of features that, suppressed one after another at α̂ = 1, bring these samples to at most 50 %.

    Args:
        samples: audit samples of one class.
        dictionary: one decoder direction per latent.
        order: (o,) latents in the order in which they are suppressed, o <= m.
        limit: give up after so many.

    Returns:
        0 when accuracy is at most 50 % from the start, None when the limit is not enough or there are no samples.
    """
    if not len(samples.labels):
        return None
    factors = np.ones(dictionary.shape[1])
    for count in range(limit + 1):
        if 2 * int(correct_under(samples, factors).sum()) <= len(samples.labels):
            return count
        if count < min(limit, len(order)):
            factors = factors * suppressing(np.abs(dictionary[order[count]].astype(np.float64)), 1.0)
    return None
