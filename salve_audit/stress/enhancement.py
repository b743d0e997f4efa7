"""Enhancing the class's own dominant feature: what the class and the others keep (SALVE, arXiv 2512.15938, 4.2)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from salve_audit.interventions.samples import AuditSamples
from salve_audit.reliance.crossings import Windows, inside_windows
from salve_audit.reliance.margins import relative_coupling
from salve_audit.results import EnhancementCurve
from salve_audit.stress.intervals import mean_bounds, wilson_bounds
from salve_audit.stress.population import Population
from salve_audit.stress.windows import recognised_windows

STRENGTHS = np.linspace(0.0, 4.0, 17)
KEPT = 0.99  # of the original accuracy
SLACK = 1e-9  # sums of thousands of equal shares round


def enhance_class(
    population: Population, index: int, name: str, feature: int, direction: Float[np.ndarray, " d"]
) -> EnhancementCurve:
    """Accuracies over `STRENGTHS`, and the exact strength up to which class and others keep 99 % of theirs.

    Args:
        population: head and samples.
        index: output of the class, with at least one sample.
        name: of the class.
        feature: its dominant latent.
        direction: (d,), the latent's dictionary row.
    """
    samples = population.samples
    windows = recognised_windows(
        samples, population.head.weight * relative_coupling(np.abs(direction.astype(np.float64)))
    )
    accuracy = samples.class_accuracies(inside_windows(windows, STRENGTHS))  # (s, k)
    own = accuracy[:, index]
    low, high = wilson_bounds(own, np.full_like(own, float(samples.counts[index])))
    others = samples.others(index)
    rest = mean_bounds(accuracy[:, others], samples.counts[others]) if others.any() else (np.empty(0),) * 3
    until, lost_by = kept_until(samples, index, windows)
    return EnhancementCurve(
        class_name=name,
        feature=feature,
        alpha_hat=tuple(STRENGTHS.tolist()),
        accuracy=tuple(own.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        others=tuple(rest[0].tolist()),
        others_low=tuple(rest[1].tolist()),
        others_high=tuple(rest[2].tolist()),
        kept_until=until,
        lost_by=lost_by,
    )


def kept_until(samples: AuditSamples, index: int, windows: Windows) -> tuple[float | None, str]:
    """The strength at which class or others first fall below `KEPT` of their accuracy at 0, and which of them does.

    None where neither ever does. Where both fall at one strength, it is the class.
    """
    weights = np.zeros(len(samples.labels))
    rows = samples.rows_of(index)
    weights[rows] = 1.0 / samples.counts[index]
    own = _first_loss(windows, weights)
    others = samples.others(index)
    if others.any():
        weights = np.where(others, 1.0 / np.maximum(samples.counts, 1) / others.sum(), 0.0)[samples.labels]
        rest = _first_loss(windows, weights)
        if rest < own:
            return rest, "others"
    return (own, "class") if np.isfinite(own) else (None, "")


def _first_loss(windows: Windows, weights: Float[np.ndarray, " n"]) -> float:
    """The first strength > 0 beyond which the weighted share of recognised samples is below `KEPT` of that at 0."""
    low, high = windows
    exists = (low < high) & (weights > 0)
    start = float(weights[exists & (low < 0) & (high > 0)].sum())
    lost = exists & (high > 0) & np.isfinite(high)
    won = exists & (low >= 0)
    at = np.concatenate([high[lost], low[won]])
    change = np.concatenate([-weights[lost], weights[won]])
    order = np.argsort(at, kind="stable")
    at, share = at[order], start + np.cumsum(change[order])
    settled = np.append(np.diff(at) > 0, True)[: len(at)]  # of several events at one strength the state after all
    below = np.flatnonzero(settled & (share < KEPT * start - SLACK))
    return float(at[below[0]]) if len(below) else np.inf
