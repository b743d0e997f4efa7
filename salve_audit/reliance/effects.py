"""Effects of scaling one feature on every class, and features that reach across classes (docs/method.md §2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float

from salve_audit.reliance.features import FeatureUse
from salve_audit.reliance.scaling import Samples, class_accuracy, correct_under, enhancing, suppressing
from salve_audit.reliance.survival import wilson
from salve_audit.results import FeatureEffect, FeatureEffects, FeatureInfo

STRENGTHS = (0.5, 1.0, 2.0)
MAX_FEATURES = 64  # described in full; the dominant ones first
EFFECTS_BUDGET, LEAST_MEASURED = 3e10, 4096  # multiply-adds of one head on all samples; beyond it on fewer of them
SCREENING_BUDGET = 5e12  # multiply-adds spent on screening all latents for effects


@dataclass(frozen=True)
class Baseline:
    """Original accuracies with their Wilson intervals, (k,) each; NaN where a class has no samples."""

    accuracy: Float[np.ndarray, " k"]
    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]


def measure_baseline(samples: Samples) -> Baseline:
    """Accuracy of every class before any edit."""
    k = samples.head.n_classes
    correct = correct_under(samples, np.ones(samples.head.d))
    hits = np.bincount(samples.labels, weights=correct, minlength=k)
    counts = np.bincount(samples.labels, minlength=k)
    bounds = np.array([wilson(int(h), int(n)) for h, n in zip(hits, counts, strict=True)])
    return Baseline(class_accuracy(correct, samples.labels, k), bounds[:, 0], bounds[:, 1])


def moved_classes(baseline: Baseline, after: Float[np.ndarray, " k"]) -> Bool[np.ndarray, " k"]:
    """Classes whose accuracy leaves its original 95 % interval."""
    return ~np.isnan(after) & ((after < baseline.low) | (after > baseline.high))


def describe_features(
    samples: Samples, dictionary: Float[np.ndarray, "m d"], use: FeatureUse, classes: tuple[str, ...]
) -> tuple[FeatureInfo, ...]:
    """The dominant features and those that reach across classes, with their effects on every class.

    A feature is cross-class when its mean code is at least half of its maximum over classes on two or more of them,
    or when suppressing it at α̂ = 1 moves a class other than the one that uses it most beyond that class's interval.
    Of very many samples a part is measured on, the same share of every class; a class's interval is then of that part.
    At most `MAX_FEATURES` are described: the dominant ones, then those that move most classes, then the largest.
    """
    k, d = samples.head.weight.shape
    samples = samples.at_most(max(LEAST_MEASURED, int(EFFECTS_BUDGET / (float(k) * d))))
    baseline = measure_baseline(samples)
    occupied = np.bincount(samples.labels, minlength=len(classes)) > 0
    dominant = {int(use.dominant[i]) for i in np.flatnonzero(~np.isnan(use.mean_codes[:, 0]))}
    candidates = _candidates(samples, use, dominant)
    moved = {
        latent: moved_classes(baseline, _accuracy(samples, dictionary[latent], 1.0, suppress=True))
        for latent in candidates
    }
    home = np.nan_to_num(np.abs(use.mean_codes)).argmax(0)  # (m,) class that uses the latent most
    reach = {latent: int(np.delete(moved[latent], home[latent]).sum()) for latent in candidates}
    size = np.nan_to_num(np.abs(use.mean_codes)).max(0)  # (m,)
    ranked = sorted(candidates, key=lambda latent: (latent not in dominant, -reach[latent], -size[latent]))
    shared = use.shared.sum(1) >= 2  # (m,)
    described = [latent for latent in ranked if latent in dominant or reach[latent] > 0 or shared[latent]][
        :MAX_FEATURES
    ]
    return tuple(
        _describe(samples, dictionary[latent], _Use(latent, use, moved[latent], reach[latent] > 0), baseline, classes)
        for latent in described
        if occupied.any()
    )


def _candidates(samples: Samples, use: FeatureUse, dominant: set[int]) -> list[int]:
    """All latents that fire, where screening them is cheap, else the dominant ones and the classes' top ones."""
    alive = [int(latent) for latent in np.flatnonzero(use.alive)]
    cost = len(alive) * len(samples.labels) * samples.head.n_classes * samples.head.d
    if cost <= SCREENING_BUDGET:
        return list(dict.fromkeys([*sorted(dominant), *alive]))
    top = [int(latent) for latent in use.top[:, :2].T.ravel()]
    return list(dict.fromkeys([*sorted(dominant), *top]))[: 4 * MAX_FEATURES]


@dataclass(frozen=True)
class _Use:
    latent: int
    use: FeatureUse
    moved: Bool[np.ndarray, " k"]
    reaches: bool


def _describe(
    samples: Samples,
    direction: Float[np.ndarray, " d"],
    latent_use: _Use,
    baseline: Baseline,
    classes: tuple[str, ...],
) -> FeatureInfo:
    effects = FeatureEffects(
        suppress=_effects(samples, direction, baseline, suppress=True),
        enhance=_effects(samples, direction, baseline, suppress=False),
    )
    change = np.array([np.nan if v is None else v for v in effects.suppress[1].accuracy_change])
    shared = latent_use.use.shared[latent_use.latent]
    means = latent_use.use.mean_codes[:, latent_use.latent]
    dominant_for = latent_use.use.dominant == latent_use.latent
    return FeatureInfo(
        index=latent_use.latent,
        norm=float(np.linalg.norm(direction)),
        coupling_max=float(np.abs(direction).max()),
        classes=_named(classes, shared),
        affected=_named(classes, latent_use.moved),
        dominant_for=_named(classes, dominant_for & ~np.isnan(means)),
        cross_class=bool(shared.sum() >= 2 or latent_use.reaches),
        entangled=bool((change[latent_use.moved] > 0).any() and (change[latent_use.moved] < 0).any()),
        mean_code=tuple(_number(value) for value in means),
        effect=effects,
    )


def _effects(
    samples: Samples, direction: Float[np.ndarray, " d"], baseline: Baseline, suppress: bool
) -> tuple[FeatureEffect, ...]:
    changes = (
        (strength, _accuracy(samples, direction, strength, suppress=suppress) - baseline.accuracy)
        for strength in STRENGTHS
    )
    return tuple(FeatureEffect(strength, tuple(_number(v) for v in change)) for strength, change in changes)


def _accuracy(
    samples: Samples, direction: Float[np.ndarray, " d"], strength: float, suppress: bool
) -> Float[np.ndarray, " k"]:
    scale = suppressing if suppress else enhancing
    correct = correct_under(samples, scale(np.abs(direction.astype(np.float64)), strength))
    return class_accuracy(correct, samples.labels, samples.head.n_classes)


def _named(classes: tuple[str, ...], which: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(name for name, yes in zip(classes, which, strict=True) if yes)


def _number(value: float) -> float | None:
    """Six digits behind the point: there are thousands of them in audit.json."""
    return round(float(value), 6) if np.isfinite(value) else None
