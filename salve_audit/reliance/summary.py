"""One class's record: medians with intervals, curve, redundancy, distributions and flags."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from jaxtyping import Bool, Float

from salve_audit.reliance.enhancement import Unedited, enhancement_thresholds
from salve_audit.reliance.features import FeatureUse
from salve_audit.reliance.nulls import beyond_null
from salve_audit.reliance.scaling import Samples, count_redundancy, suppressing, trace_curve
from salve_audit.reliance.survival import (
    MedianEstimate,
    Times,
    censor,
    estimate_median,
    last_strength,
    quantiles,
    wilson,
)
from salve_audit.reliance.thresholds import Thresholds
from salve_audit.results import AlphaSummary, ClassReliance, Curve, Distribution, FlipSummary, NullControl, StatusCounts
from salve_audit.tasks import map_threads

REDUNDANCY_LIMIT = 50
CURVE_POINTS = 41
CURVE_BUDGET = 4e12  # multiply-adds for all curves: beyond it the others' accuracy is left out of them
ENHANCE_BUDGET, LEAST_ENHANCED = 2e12, 1000  # multiply-adds for all classes, beyond which fewer samples are enhanced
MOST_DIFFERENT = 100  # classes named by each
FAR = 100.0  # α̂ up to which every curve runs: coordinates with over 1 % of the largest coupling are gone there
RISE = 0.02  # a rise of accuracy by more than this under growing suppression is called non-monotone


@dataclass(frozen=True)
class ClassEvidence:
    """Thresholds, medians and controls of one class, from which its record is made.

    Attributes:
        index: its output.
        thresholds: per-sample thresholds, in α.
        flips: the flip thresholds in α̂, censored.
        median: their Kaplan-Meier median.
        null: the null controls.
        differs: (k,) classes whose flip thresholds differ.
        stable: the finding survives other seeds; None: not known.
    """

    index: int
    thresholds: Thresholds
    flips: Times
    median: MedianEstimate
    null: NullControl
    differs: Bool[np.ndarray, " k"]
    stable: bool | None = None


@dataclass(frozen=True)
class AllClasses:
    """What the records of all classes are made from.

    Attributes:
        audit: audit samples.
        dictionary: (m, d) of the autoencoder, float64.
        use: mean codes and dominant latents.
        names: of the classes.
        enhanced: the audit samples, or some of many, that enhancement turns to a class.
    """

    audit: Samples
    dictionary: Float[np.ndarray, "m d"]
    use: FeatureUse
    names: tuple[str, ...]
    enhanced: Unedited

    @classmethod
    def of(
        cls, audit: Samples, dictionary: Float[np.ndarray, "m d"], use: FeatureUse, names: tuple[str, ...]
    ) -> AllClasses:
        """With as many samples to enhance as the budget allows."""
        k, d = audit.head.weight.shape
        some = audit.at_most(max(LEAST_ENHANCED, int(ENHANCE_BUDGET / (1.0 * k * k * d))))
        return cls(audit, dictionary, use, names, Unedited.of(some))


def summarise_classes(every: AllClasses, evidence: Sequence[ClassEvidence]) -> list[ClassReliance]:
    """The records of the classes, in the order of their evidence."""
    return map_threads(_summarise_class, every, [functools.partial(_itself, each) for each in evidence])


def _itself(evidence: ClassEvidence) -> ClassEvidence:
    return evidence


def _summarise_class(every: AllClasses, evidence: ClassEvidence) -> ClassReliance:
    index, use, dictionary = evidence.index, every.use, every.dictionary
    own = every.audit.of_class(index)
    dominant = int(use.dominant[index])
    coupling = np.abs(dictionary[dominant])
    n, n_correct = len(own.labels), int(evidence.thresholds.correct.sum())
    low, high = wilson(n_correct, n)
    numbers = _compute_numbers(every, coupling, evidence)
    order = use.by_attribution[index][use.alive[use.by_attribution[index]]][:REDUNDANCY_LIMIT]
    curve = _curve(every.audit, own, index, coupling, numbers["alpha_hat"])
    return ClassReliance(
        name=every.names[index],
        index=index,
        n=n,
        n_correct=n_correct,
        accuracy=n_correct / n if n else 0.0,
        accuracy_low=low,
        accuracy_high=high,
        thin=evidence.median.thin,
        dominant_feature=dominant,
        stable=evidence.stable,
        seeds=None,
        top_features=tuple(int(latent) for latent in use.top[index]),
        top_attribution=tuple(int(latent) for latent in use.by_attribution[index, : use.top.shape[1]]),
        **numbers,
        feature_redundancy=count_redundancy(own, dictionary, order, len(order)),
        feature_redundancy_limit=len(order),
        null_p=_largest(evidence.null.permuted_p, evidence.null.random_p),
        null=evidence.null,
        differs_from=tuple(every.names[other] for other in np.flatnonzero(evidence.differs)[:MOST_DIFFERENT].tolist()),
        curve=curve,
        flags=_flags(evidence, numbers["alpha_hat"], curve),
    )


class _ThresholdNumbers(TypedDict):
    """The fields of the record that follow from the thresholds and the dominant latent's coupling."""

    alpha: AlphaSummary
    alpha_hat: AlphaSummary
    status: StatusCounts
    analytical_below_numerical: float | None
    clamped_share: float | None
    enhance: FlipSummary
    edit_size_at_flip: float | None
    distributions: tuple[Distribution, ...]


def _compute_numbers(
    every: AllClasses, coupling: Float[np.ndarray, " d"], evidence: ClassEvidence
) -> _ThresholdNumbers:
    thresholds = evidence.thresholds
    alpha, alpha_hat = _summaries(evidence, coupling)
    return {
        "alpha": alpha,
        "alpha_hat": alpha_hat,
        "status": _count_status(thresholds),
        "analytical_below_numerical": _share_below(thresholds),
        "clamped_share": _clamped_share(thresholds, coupling),
        "enhance": _enhance(every.enhanced, coupling, evidence.index),
        "edit_size_at_flip": _edit_size(every.audit, coupling, evidence.median.median),
        "distributions": _distributions(evidence, coupling),
    }


def _summaries(evidence: ClassEvidence, coupling: Float[np.ndarray, " d"]) -> tuple[AlphaSummary, AlphaSummary]:
    """The class's medians in α, and in α̂."""
    top = float(coupling.max(initial=0.0)) or 1.0
    thresholds = evidence.thresholds
    analytical = thresholds.analytical[~np.isnan(thresholds.analytical)]
    numerical = estimate_median(_numerical_times(thresholds, coupling)).median
    in_hat = AlphaSummary(
        analytical=float(np.median(analytical)) * top if len(analytical) else None,
        numerical=numerical,
        flip=_flip_summary(evidence.median),
        empirical=float(thresholds.empirical * top) if np.isfinite(thresholds.empirical) else None,
    )
    flip = in_hat.flip
    in_alpha = AlphaSummary(
        analytical=_scaled(in_hat.analytical, 1 / top),
        numerical=_scaled(in_hat.numerical, 1 / top),
        flip=FlipSummary(
            _scaled(flip.median, 1 / top), _scaled(flip.low, 1 / top), _scaled(flip.high, 1 / top), flip.share
        ),
        empirical=_scaled(in_hat.empirical, 1 / top),
    )
    return in_alpha, in_hat


def _numerical_times(thresholds: Thresholds, coupling: Float[np.ndarray, " d"]) -> Times:
    return censor(thresholds.numerical * (float(coupling.max(initial=0.0)) or 1.0), last_strength(coupling))


def _flip_summary(estimate: MedianEstimate) -> FlipSummary:
    return FlipSummary(estimate.median, estimate.low, estimate.high, estimate.share)


def _count_status(thresholds: Thresholds) -> StatusCounts:
    return StatusCounts(
        *(int((thresholds.status == s).sum()) for s in ("crossed", "erased", "never", "not_applicable"))
    )


def _share_below(thresholds: Thresholds) -> float | None:
    """Share of samples whose analytical threshold is at most the numerical one: the lower bound of the paper."""
    both = ~np.isnan(thresholds.analytical) & ~np.isnan(thresholds.numerical)
    below = thresholds.analytical[both] <= thresholds.numerical[both] * (1 + 1e-12)
    return float(below.mean()) if both.any() else None


def _clamped_share(thresholds: Thresholds, coupling: Float[np.ndarray, " d"]) -> float | None:
    flips = thresholds.flip[np.isfinite(thresholds.flip)]
    if not len(flips):
        return None
    ordered = np.sort(coupling)
    with np.errstate(divide="ignore"):
        clamped = len(ordered) - np.searchsorted(ordered, 1.0 / flips, side="right")
    return float(clamped.mean() / len(ordered))


def _enhance(start: Unedited, coupling: Float[np.ndarray, " d"], index: int) -> FlipSummary:
    return _flip_summary(estimate_median(censor(enhancement_thresholds(start, coupling, index), float("inf"))))


def _edit_size(audit: Samples, coupling: Float[np.ndarray, " d"], strength: float | None) -> float | None:
    """``||W' - W||_F / ||W||_F`` at this α̂."""
    if strength is None:
        return None
    weight = audit.head.weight.astype(np.float64)
    return float(np.linalg.norm(weight * (1 - suppressing(coupling, strength))) / np.linalg.norm(weight))


def _curve(
    audit: Samples, own: Samples, index: int, coupling: Float[np.ndarray, " d"], alpha_hat: AlphaSummary
) -> Curve:
    marks = [alpha_hat.analytical, alpha_hat.numerical, alpha_hat.flip.median, alpha_hat.empirical]
    last = last_strength(coupling)
    top = max(2.0, min(2 * max((mark for mark in marks if mark is not None), default=0.0), last), min(FAR, last))
    strengths = np.concatenate([[0.0], np.geomspace(0.05, top, CURVE_POINTS - 1)])
    k = audit.head.n_classes
    cost = float(len(audit.labels)) * k * k * audit.head.d * CURVE_POINTS
    traced = trace_curve(audit if cost <= CURVE_BUDGET else own, index, coupling, strengths)
    others = traced.others[~np.isnan(traced.others)] if cost <= CURVE_BUDGET else traced.others[:0]
    accuracy = np.nan_to_num(traced.accuracy)
    lowest_so_far = np.minimum.accumulate(accuracy)
    return Curve(
        alpha_hat=tuple(float(v) for v in strengths),
        accuracy=tuple(float(v) for v in accuracy),
        others=tuple(float(v) for v in others),
        non_monotone=bool((accuracy > lowest_so_far + RISE).any()),
    )


def _distributions(evidence: ClassEvidence, coupling: Float[np.ndarray, " d"]) -> tuple[Distribution, ...]:
    top = float(coupling.max(initial=0.0)) or 1.0
    times = {
        "analytical": censor(evidence.thresholds.analytical * top, float("inf")),
        "numerical": _numerical_times(evidence.thresholds, coupling),
        "flip": evidence.flips,
    }
    return tuple(Distribution(name, len(censored.value), quantiles(censored)) for name, censored in times.items())


def _flags(evidence: ClassEvidence, alpha_hat: AlphaSummary, curve: Curve) -> tuple[str, ...]:
    erased = int((evidence.thresholds.status == "erased").sum())
    applicable = int((evidence.thresholds.status != "not_applicable").sum())
    raised = {
        "thin": evidence.median.thin,
        "unstable": evidence.stable is False,
        "erased": 2 * erased > applicable,
        "non-monotone": curve.non_monotone,
        "wrong from the start": alpha_hat.empirical == 0.0,
        "not beyond null": beyond_null(evidence.null) is False,
    }
    return tuple(name for name, yes in raised.items() if yes)


def _largest(*values: float | None) -> float | None:
    given = [value for value in values if value is not None]
    return max(given) if given else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
