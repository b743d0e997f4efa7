"""Bootstrap over samples, stratified by class, with the same draws for every method so that they stay paired."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from salve_audit.interventions.samples import AuditSamples

LEVEL = 0.95


def draw_weights(
    counts: Int[np.ndarray, " k"], n_draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "n_draws n"]:
    """Multinomial weights of samples sorted by class: each class drawn anew to its own size, its weights summing to 1.

    float32: a weight is a small count over the class size, and only their sums over a few thousand samples are used.
    """
    weights = np.empty((n_draws, int(counts.sum())), dtype=np.float32)
    start = 0
    for n in (int(count) for count in counts if count):
        drawn = rng.integers(n, size=(n_draws, n)) + n * np.arange(n_draws)[:, None]
        times = np.bincount(drawn.ravel(), minlength=n_draws * n)
        weights[:, start : start + n] = times.reshape(n_draws, n) / n
        start += n
    return weights


def draw_others(
    weights: Float[np.ndarray, "n_draws n"],
    correct: Bool[np.ndarray, "s n"],
    samples: AuditSamples,
    class_index: int,
) -> Float[np.ndarray, "n_draws s"]:
    """Mean accuracy of the other classes in every draw."""
    counted = correct.astype(np.float32)
    counted[:, samples.rows_of(class_index)] = 0
    n_others = np.count_nonzero(samples.others(class_index))
    return (weights @ counted.T).astype(np.float64) / n_others


def hull_interval(drawn: Float[np.ndarray, " n_draws"], mixed: Float[np.ndarray, " some"]) -> tuple[float, float]:
    """The percentile intervals over samples alone and over two levels, joined: never narrower than either."""
    both = [percentile_interval(draws).tolist() for draws in (drawn, mixed) if len(draws)]
    return min(low for low, _ in both), max(high for _, high in both)


def percentile_interval(draws: Float[np.ndarray, "n_draws ..."]) -> Float[np.ndarray, "... 2"]:
    """95 % percentile intervals over the draws."""
    tail = (1 - LEVEL) / 2
    return np.moveaxis(np.quantile(draws, [tail, 1 - tail], axis=0), 0, -1)
