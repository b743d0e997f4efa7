"""Where every sample's prediction changes under suppression: exact, segment by segment.

Between two breakpoints 1/c all logits are linear in α, so the prediction follows the upper envelope of k lines. A
sample that is predicted alike at both ends of a segment is so throughout it: each margin is linear and not negative at
either end. Only the others are walked through.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from salve_audit.reliance.margins import sort_coupling
from salve_audit.reliance.scaling import Samples
from salve_audit.results import ClassReliance, Confusion, Suppression, SuppressionTrace

MOST_CLASSES = 20  # traced, those that are lost at the smallest strengths
BUDGET = 1.5e9  # changed logits, over breakpoints and traces: some ten seconds; with more, fewer classes are traced
FARTHEST = 25.0  # α̂ of the last change that is looked for
_TINY = 1e-12


@dataclass(frozen=True)
class Switches:
    """Changes of predictions, by rising α̂.

    Attributes:
        alpha_hat: (e,) where one sample's prediction changes.
        sample: (e,) its row.
        before, after: (e,) outputs.
    """

    alpha_hat: Float[np.ndarray, " e"]
    sample: Int[np.ndarray, " e"]
    before: Int[np.ndarray, " e"]
    after: Int[np.ndarray, " e"]


def find_switches(samples: Samples, coupling: Float[np.ndarray, " d"], up_to: float) -> Switches:
    """All changes of all samples' predictions for α̂ in 0..`up_to`, the feature's coupling being suppressed."""
    order = sort_coupling(coupling)
    acts = np.asarray(samples.acts, np.float64)[:, order.order]
    weight = samples.head.weight.astype(np.float64)[:, order.order]
    logits = acts @ weight.T + samples.head.bias
    slope = -(acts * order.relative) @ weight.T
    predicted = logits.argmax(1)
    events: list[tuple[float, int, int, int]] = []
    at, column = 0.0, 0
    breakpoints = order.breakpoints
    while at < up_to:
        end = min(up_to, float(breakpoints[column])) if column < len(breakpoints) else up_to
        if end > at:
            after = logits + (end - at) * slope
            for row in np.flatnonzero(after.argmax(1) != predicted):
                predicted[row] = _walk(events, int(row), at, float(end), logits[row], slope[row], int(predicted[row]))
            logits, at = after, end
        if column < len(breakpoints) and end == breakpoints[column]:
            slope += order.relative[column] * np.outer(acts[:, column], weight[:, column])
            column += 1
    events.sort()
    columns = list(zip(*events, strict=True)) or [(), (), (), ()]
    return Switches(np.array(columns[0], np.float64), *(np.array(column, np.int64) for column in columns[1:]))


def _walk(
    events: list[tuple[float, int, int, int]],
    row: int,
    start: float,
    end: float,
    logits: Float[np.ndarray, " k"],
    slope: Float[np.ndarray, " k"],
    predicted: int,
) -> int:
    """Follow one sample's upper envelope through a segment; returns the prediction at its end."""
    at = 0.0
    while True:
        gain = slope - slope[predicted]
        lead = np.maximum(0.0, (logits[predicted] - logits) + at * (slope[predicted] - slope))
        times = np.where(gain > _TINY * (1 + abs(slope[predicted])), lead / np.where(gain > 0, gain, 1.0), np.inf)
        times[predicted] = np.inf
        soonest = times.min()
        if not at + soonest < end - start:
            return predicted
        ties = np.flatnonzero(times <= soonest * (1 + _TINY))
        rival = int(ties[slope[ties].argmax()])
        at += float(soonest)
        events.append((start + at, row, predicted, rival))
        predicted = rival


def trace_suppression(
    audit: Samples, coupling: Float[np.ndarray, "k d"], classes: tuple[ClassReliance, ...]
) -> Suppression | None:
    """The traces of the classes that are lost first; None where there are too many samples and classes for any."""
    n, k, d = len(audit.labels), audit.head.n_classes, audit.head.d
    usable = [info for info in classes if info.n_correct and info.alpha_hat.flip.median is not None]
    usable.sort(key=lambda info: (info.alpha_hat.flip.median or 0.0, info.index))
    most = int(BUDGET / max(1.0, float(n) * k * d))
    if not n or (usable and not most):
        return None
    traced = usable[: min(MOST_CLASSES, most)]
    weight = audit.head.weight.astype(np.float64)
    predicted = (np.asarray(audit.acts, np.float64) @ weight.T + audit.head.bias).argmax(1)
    pairs, counts = np.unique(np.stack([audit.labels, predicted], 1), axis=0, return_counts=True)
    start = tuple(Confusion(int(a), int(b), int(c)) for (a, b), c in zip(pairs, counts, strict=True))
    traces = tuple(_trace(audit, coupling[info.index], info) for info in sorted(traced, key=lambda info: info.index))
    return Suppression(start, traces, len(classes) - len(traced))


def _trace(audit: Samples, coupling: Float[np.ndarray, " d"], info: ClassReliance) -> SuppressionTrace:
    up_to = min(FARTHEST, info.curve.alpha_hat[-1] if info.curve.alpha_hat else FARTHEST)
    found = find_switches(audit, coupling, up_to)
    return SuppressionTrace(
        class_name=info.name,
        feature=info.dominant_feature,
        up_to=up_to,
        alpha_hat=tuple(float(f"{value:.7g}") for value in found.alpha_hat),
        label=tuple(int(audit.labels[row]) for row in found.sample),
        before=tuple(map(int, found.before)),
        after=tuple(map(int, found.after)),
    )
