"""Cross-class features suppressed and enhanced over a range of strengths (docs/method.md §2.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from salve_audit.activations.store import ActivationSplit
from salve_audit.interventions.registry import SALVE
from salve_audit.interventions.salve import scaled_suppression
from salve_audit.interventions.samples import edit_logits
from salve_audit.reliance.crossings import inside_windows
from salve_audit.reliance.margins import relative_coupling
from salve_audit.results import ClassSweep, FeatureSweep, Opposition, TopImage
from salve_audit.stress.intervals import change_bounds, wilson_bounds
from salve_audit.stress.population import Population
from salve_audit.stress.windows import recognised_windows

RANGE = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)  # each suppressed and enhanced
STRENGTHS = np.array([*(-strength for strength in reversed(RANGE)), 0.0, *RANGE])
N_IMAGES = 9
DIGITS = 6  # decimals kept of a share: there are thousands of them
PRODUCTS = 1 + sum(
    strength > 1 for strength in RANGE
)  # matrix products for one feature: beyond α̂ = 1 some weights are clamped


def sweep_feature(
    population: Population, feature: int, direction: Float[np.ndarray, " d"], names: Sequence[str]
) -> FeatureSweep:
    """Accuracy of the examined classes, in output order, at all strengths; no images yet.

    A class moves where the paired interval of its change excludes 0, at 95 % for all classes and strengths together.
    """
    samples = population.samples
    correct = recognised_over(population, feature, direction)
    shown = sorted(population.classes)
    accuracy = samples.class_accuracies(correct)[:, shown]  # (s, shown)
    counts = samples.counts[shown]
    low, high = wilson_bounds(accuracy, np.broadcast_to(counts.astype(np.float64), accuracy.shape))
    before = correct[len(RANGE)]
    lost = _count(samples.labels, before & ~correct, len(samples.counts))[:, shown]
    gained = _count(samples.labels, ~before & correct, len(samples.counts))[:, shown]
    n_tests = len(shown) * (len(STRENGTHS) - 1)
    least, most = change_bounds(lost, gained, counts, n_tests)
    moves = tuple(
        Opposition(
            float(strength),
            tuple(names[index] for index, down in zip(shown, most[i] < 0, strict=True) if down),
            tuple(names[index] for index, up in zip(shown, least[i] > 0, strict=True) if up),
        )
        for i, strength in enumerate(STRENGTHS)
        if ((most[i] < 0) | (least[i] > 0)).any()
    )
    classes = tuple(
        ClassSweep(names[index], *(tuple(np.round(values[:, j], DIGITS).tolist()) for values in (accuracy, low, high)))
        for j, index in enumerate(shown)
    )
    return FeatureSweep(tuple(STRENGTHS.tolist()), classes, moves, ())


def recognised_over(
    population: Population, feature: int, direction: Float[np.ndarray, " d"]
) -> Bool[np.ndarray, "s n"]:
    """(s, n) True where a sample is recognised at one of `STRENGTHS`."""
    samples, relative = population.samples, relative_coupling(np.abs(direction.astype(np.float64)))
    correct = inside_windows(recognised_windows(samples, population.head.weight * relative), STRENGTHS)
    clamped = STRENGTHS < -1.0
    suppression = scaled_suppression(SALVE.key, population.head, relative, feature)
    (edited,) = edit_logits(samples, [suppression])
    correct[clamped] = edited.correct(-STRENGTHS[clamped])
    return correct


def _count(labels: Int[np.ndarray, " n"], which: Bool[np.ndarray, "s n"], k: int) -> Int[np.ndarray, "s k"]:
    return np.stack([np.bincount(labels[row], minlength=k) for row in which])


def top_images(codes: Float[np.ndarray, " n"], audit: ActivationSplit, names: Sequence[str]) -> tuple[TopImage, ...]:
    """The audit images on which the feature is strongest, either sign, strongest first; none where it never fires."""
    order = np.argsort(-np.abs(codes), kind="stable")[:N_IMAGES]
    return tuple(
        TopImage(audit.paths[i], names[audit.labels[i]], float(codes[i])) for i in order.tolist() if codes[i] != 0
    )
