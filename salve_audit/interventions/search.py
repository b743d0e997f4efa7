"""The smallest strength that brings a class down to an accuracy, exactly.

No grid and no iteration. Every method compared has one of two forms, and for both the strengths at which a sample of
the class starts or stops being recognised are roots that can be written down:

* ``W diag(max(0, 1 − α̂ c))`` (SALVE and its nulls): every margin is piecewise linear in α̂, `reliance.margins`;
* ``W + t ΔW, b + t Δb`` (all others, interpolated LEACE included; ΔW in factors): every margin is linear in t, so each
  rival leaves one side of one t, and a sample is recognised on an open interval.

Accuracy is a step function of the strength with steps at these roots; it need not fall steadily, and the first step
down to the level is taken, however narrow the dip.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from salve_audit.interventions.samples import EditedLogits
from salve_audit.reliance.crossings import SLACK, Windows, bound_windows, count_wrong
from salve_audit.reliance.margins import MarginEvents, find_margin_events, list_rivals, sort_coupling

# Relative. A root is where the margin is 0, which float64 may round to either side: strengths lie this far beyond it.
NUDGE = 1e-9


def class_events(edited: EditedLogits, class_index: int) -> MarginEvents:
    """The strengths at which samples of the class start and stop being recognised."""
    if edited.factors is not None:
        return _linear_events(edited, class_index)
    coupling = edited.intervention.coupling
    assert coupling is not None, f"{edited.intervention.method} has no form whose events are known"
    head, rows = edited.intervention.head(0.0), edited.samples.rows_of(class_index)
    # The edited head has exact zeros where all weights are gone, so no remnant of rounding is left there.
    order = dataclasses.replace(sort_coupling(coupling), remnant=0.0)
    return find_margin_events(edited.samples.exact(rows), list_rivals(head.weight, head.bias, class_index), order)


def find_least_strengths(
    events: MarginEvents, levels: Float[np.ndarray, " levels"], limit: float
) -> tuple[Float[np.ndarray, " levels"], Bool[np.ndarray, " levels"]]:
    """The smallest strengths just beyond which the accuracy is at most each level.

    Args:
        events: of the class's samples, of which there is at least one.
        levels: accuracies to come down to.
        limit: the largest strength considered.

    Returns:
        strengths (levels,), 0 where the accuracy is that low from the start, else beyond the root by `NUDGE`; and
        whether the level is reached. Where it is not: the smallest strength with the lowest accuracy.
    """
    strength, wrong = count_wrong(events)
    settled = np.append(np.diff(strength) > 0, True)  # of several events at one strength the state after all of them
    settled[0] = True
    considered = settled & (strength <= limit)
    strength, accuracy = strength[considered], 1.0 - wrong[considered] / len(events.correct)
    low_enough = accuracy[None, :] <= levels[:, None] + SLACK  # (levels, e)
    reached = np.asarray(low_enough.any(axis=1))
    chosen = np.where(reached, low_enough.argmax(axis=1), accuracy.argmin())
    return strength[chosen] * (1.0 + NUDGE), reached


def _linear_events(edited: EditedLogits, class_index: int) -> MarginEvents:
    low, high = correct_windows(edited, class_index)
    exists = low < high
    correct = exists & (low < 0) & (high > 0)
    return MarginEvents(
        correct=correct,
        flip=np.where(correct, high, np.nan),
        down=high[exists & (high > 0) & np.isfinite(high)],
        up=low[exists & (low >= 0)],
    )


def correct_windows(edited: EditedLogits, class_index: int) -> Windows:
    """Bounds of the open interval of strengths on which each sample of the class is recognised; empty: low >= high."""
    rows = edited.samples.rows_of(class_index)
    base, slope = edited.samples.logits[:, rows], edited.shift(rows)
    margin = np.delete(base[class_index] - base, class_index, axis=0)  # (k - 1, rows)
    slope = np.delete(slope[class_index] - slope, class_index, axis=0)
    return bound_windows(margin, slope)
