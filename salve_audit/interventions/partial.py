"""SALVE on a class for which the whole head on all images again would cost too much.

The strengths come from all images of the class itself, exactly as elsewhere; what the other classes keep comes from
a few hundred images spread evenly over them (`AuditSamples.thinned`), so neither their worst class nor the area
under all strengths is told.
"""

from __future__ import annotations

import numpy as np

from salve_audit.interventions.measure import compute_drift, head_change
from salve_audit.interventions.samples import EditedLogits
from salve_audit.interventions.search import class_events, find_least_strengths
from salve_audit.interventions.workbench import Workbench
from salve_audit.reliance.survival import wilson
from salve_audit.results import InterventionResult


def match_on_part(bench: Workbench, edited: EditedLogits, index: int) -> list[InterventionResult]:
    """One result per target, with Wilson's 95 % interval over the other classes' images that were used."""
    events = class_events(edited, index)
    strengths, reached = find_least_strengths(events, bench.targets, edited.intervention.max_strength)
    return [_measure(bench, edited, index, at) for at in zip(bench.settings.targets, strengths, reached, strict=True)]


def _measure(
    bench: Workbench, edited: EditedLogits, index: int, at: tuple[float, np.float64, np.bool_]
) -> InterventionResult:
    target, strength, reached = at[0], float(at[1]), bool(at[2])
    drift = compute_drift(edited, index, strength)
    low, high = wilson(round(drift.accuracy * drift.n), drift.n)
    weight_change, bias_change = head_change(edited.intervention, bench.head, strength)
    return InterventionResult(
        method=edited.intervention.method,
        class_name=bench.inputs.class_names[index],
        feature=edited.intervention.feature,
        strength=strength,
        target_accuracy=target,
        reached_accuracy=edited.accuracy_of(index, strength),
        reached=reached,
        others_accuracy=drift.accuracy,
        others_worst=None,
        kl=drift.kl,
        agreement=drift.agreement,
        weight_change=weight_change,
        area=None,
        low=low,
        high=high,
        bias_change=bias_change,
        n_others=drift.n,
    )
