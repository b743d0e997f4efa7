"""Bootstrap over samples, stratified by class, with the same draws for every method so that they stay paired."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from salve_audit.interventions.samples import AuditSamples

LEVEL = 0.95


def draw_weights(
    counts: Int[np.ndarray, " k"], n_draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "n_draws n"]:
    """Number of times that each sample, sorted by class, is drawn: every class anew, to its own size.

    Whole numbers, so that sums over them are exact in float32 as well, in whatever order a processor adds them up.
    """
    weights = np.empty((n_draws, int(counts.sum())), dtype=np.float32)
    start = 0
    for n in (int(count) for count in counts if count):
        drawn = rng.integers(n, size=(n_draws, n)) + n * np.arange(n_draws)[:, None]
        times = np.bincount(drawn.ravel(), minlength=n_draws * n)
        weights[:, start : start + n] = times.reshape(n_draws, n)
        start += n
    return weights


def draw_others(
    weights: Float[np.ndarray, "n_draws n"],
    correct: Bool[np.ndarray, "s n"],
    samples: AuditSamples,
    class_index: int,
) -> Float[np.ndarray, "n_draws s"]:
    """Mean accuracy of the other classes in every draw."""
    return draw_accuracy(weights, correct, samples, samples.others(class_index))


def draw_accuracy(
    weights: Float[np.ndarray, "n_draws n"],
    correct: Bool[np.ndarray, "s n"],
    samples: AuditSamples,
    classes: Bool[np.ndarray, " k"],
) -> Float[np.ndarray, "n_draws s"]:
    """Mean accuracy of the chosen classes in every draw.

    The hits of classes of one size are counted by one product and only then divided: counts are exact, so the result
    does not depend on how many rows `correct` has, which decides in what order a product is summed up.
    """
    total = np.zeros((len(weights), len(correct)))
    for rows, size in _runs(samples, classes):
        hits = weights[:, rows] @ correct[:, rows].T.astype(np.float32)
        total += hits.astype(np.float64) / size
    return total / np.count_nonzero(classes)


def _runs(samples: AuditSamples, classes: Bool[np.ndarray, " k"]) -> list[tuple[slice, int]]:
    """The samples of neighbouring chosen classes of one size, and that size."""
    runs: list[tuple[slice, int]] = []
    for index in np.flatnonzero(classes & (samples.counts > 0)).tolist():
        rows, size = samples.rows_of(index), int(samples.counts[index])
        if runs and runs[-1][1] == size and runs[-1][0].stop == rows.start:
            runs[-1] = (slice(runs[-1][0].start, rows.stop), size)
        else:
            runs.append((rows, size))
    return runs


def hull_interval(drawn: Float[np.ndarray, " n_draws"], mixed: Float[np.ndarray, " some"]) -> tuple[float, float]:
    """The percentile intervals over samples alone and over two levels, joined: never narrower than either."""
    both = [percentile_interval(draws).tolist() for draws in (drawn, mixed) if len(draws)]
    return min(low for low, _ in both), max(high for _, high in both)


def percentile_interval(draws: Float[np.ndarray, "n_draws ..."]) -> Float[np.ndarray, "... 2"]:
    """95 % percentile intervals over the draws."""
    tail = (1 - LEVEL) / 2
    return np.moveaxis(np.quantile(draws, [tail, 1 - tail], axis=0), 0, -1)
