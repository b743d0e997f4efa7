"""Every method brought to the same suppression of every class, and what each then costs the others."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from salve_audit.interventions.affine import Intervention
from salve_audit.interventions.bootstrap import draw_others, hull_interval
from salve_audit.interventions.choices import measure_choices, mix_draws, summarise_spreads
from salve_audit.interventions.comparison import Comparison, ComparisonInputs, ComparisonSettings
from salve_audit.interventions.measure import Matched, compute_drift, head_change, match_accuracy
from salve_audit.interventions.partial import match_on_part
from salve_audit.interventions.plan import Plan, make_plan
from salve_audit.interventions.samples import EditedLogits, edit_groups
from salve_audit.interventions.summary import ClassDraws, summarise_methods
from salve_audit.interventions.workbench import Workbench
from salve_audit.results import InterventionResult, MethodSpread

logger = logging.getLogger(__name__)

MAX_THREADS = 4  # each holds the arrays of one class, or of one group
GROUP = 8  # classes of a huge split whose projections are one product: it is as fast as memory, not arithmetic, allows
FEWER_DRAWS = 200  # behind the intervals of classes that are not in the summary


@dataclass(frozen=True)
class ClassFindings:
    """One class: results, `draws` only where all methods were compared, and what had nothing to act on."""

    results: tuple[InterventionResult, ...]
    draws: ClassDraws | None
    spreads: tuple[MethodSpread, ...]
    left_out: tuple[str, ...] = ()


def compare_interventions(
    settings: ComparisonSettings, inputs: ComparisonInputs, advance: Callable[[int, int], None] | None = None
) -> Comparison:
    """Compare all methods on all classes at all target accuracies (matched suppression, docs/method.md §5).

    `advance` is told how many classes of how many are done.

    A class without fit or audit samples, or without any other class to compare it with, is left out and logged. One
    that is at or below a target from the start has strength 0 there and counts as reached. Where a method never
    reaches a target, the result is the smallest strength with the lowest accuracy of the class. Where a method
    has nothing to act on (no latent is left for a random null), the class has no result of it; `notes` say so. What an
    audit is too large for is left out by `plan` and said there as well; classes outside the summary then have intervals
    of `FEWER_DRAWS` draws.

    The spread of a method that depends on a key (or the autoencoder's seed) is the lowest, median and highest
    `others_accuracy` over random keys (over all seeds), of those that reach the target (`n_keys` says how many do);
    without any, there is none.
    """
    with threadpool_limits(1, user_api="blas"):  # many small products: threads that wait for each other cost fourfold
        bench = Workbench(settings, inputs)
        plan = make_plan(bench)
        findings = _compare_all(bench, plan, advance or (lambda done, total: None))
    notes = (*plan.notes(bench), *_name_missing(findings))
    _report_missing(bench, notes)
    return Comparison(
        results=tuple(result for of_class in findings for result in of_class.results),
        spreads=tuple(spread for of_class in findings for spread in of_class.spreads),
        summary=summarise_methods([of_class.draws for of_class in findings if of_class.draws is not None]),
        notes=notes,
    )


def _compare_all(bench: Workbench, plan: Plan, advance: Callable[[int, int], None]) -> list[ClassFindings]:
    """The first class alone, as it works out what all share; the others side by side."""
    if not plan.classes:
        return []
    findings = compare_group(bench, plan, plan.classes[:1])
    advance(1, len(plan.classes))
    step = GROUP if bench.samples.huge else 1
    groups = [plan.classes[start : start + step] for start in range(1, len(plan.classes), step)]
    n_threads = min(MAX_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    with ThreadPoolExecutor(n_threads) as pool:
        for of_group in pool.map(lambda group: compare_group(bench, plan, group), groups):
            findings += of_group
            advance(len(findings), len(plan.classes))
    return findings


def _report_missing(bench: Workbench, notes: Iterable[str]) -> None:
    inputs = bench.inputs
    for index, name in enumerate(inputs.class_names):
        in_data = index in inputs.fit_labels or index in inputs.audit_labels  # else an output, but no class of the data
        if in_data and not bench.can_compare(index):
            logger.warning("class %s has too few samples: no interventions are compared on it", name)
    for note in notes:
        logger.info("%s", note)


def _name_missing(findings: Iterable[ClassFindings]) -> list[str]:
    """The methods that had nothing to act on, in words."""
    missing = [method for of_class in findings for method in of_class.left_out]
    times = {method: missing.count(method) for method in missing}
    return [
        f"{method} has nothing to act on in {n} {'class' if n == 1 else 'classes'} and is left out there."
        for method, n in times.items()
    ]


def compare_group(bench: Workbench, plan: Plan, group: Sequence[int]) -> list[ClassFindings]:
    """Findings of these classes, in their order; the projections of all their edits are worked out at once."""
    made = [_intervene(bench, plan, index) for index in group]
    wanted = [
        (index, [intervention for intervention in own.values() if intervention is not None])
        for index, own in zip(group, made, strict=True)
    ]
    edits = edit_groups(bench.samples, wanted)
    findings = []
    for index, had, own in zip(group, made, edits, strict=True):
        missing = tuple(method for method, intervention in had.items() if intervention is None)
        findings.append(dataclasses.replace(_compare_class(bench, plan, index, own), left_out=missing))
    return findings


def _intervene(bench: Workbench, plan: Plan, index: int) -> dict[str, Intervention | None]:
    context = bench.context(index)
    methods = plan.methods(index, bench.settings.methods)
    return {method: bench.intervene(method, context) for method in methods}


def _compare_class(bench: Workbench, plan: Plan, index: int, every: Sequence[EditedLogits]) -> ClassFindings:
    """One result per method and target, with intervals, spreads, and draws for the summary."""
    methods = plan.methods(index, bench.settings.methods)
    some = [edited for edited in every if plan.on_part(index, edited.intervention.method)]
    edits = [edited for edited in every if edited not in some]
    matches = [match_accuracy(edited, index, bench.targets) for edited in edits]
    none = np.zeros((0, len(bench.samples.labels)), dtype=bool)
    correct = np.concatenate([none, *(matched.correct for matched in matches)])  # (methods targets, n)
    weights = bench.weights if index in plan.full else bench.weights[:FEWER_DRAWS]
    draws = draw_others(weights, correct, bench.samples, index)
    unbounded = tuple(
        _result(bench, edited, matched, (index, i))
        for edited, matched in zip(edits, matches, strict=True)
        for i in range(len(bench.targets))
    )
    choices = measure_choices(bench, index, methods) if index in plan.varied else []
    drawn = mix_draws(bench, index, unbounded, draws, choices) if choices else ClassDraws(unbounded, draws)
    results = tuple(_with_interval(cell.result, cell.drawn, cell.mixed) for cell in drawn.cells())
    of_part = [result for edited in some for result in match_on_part(bench, edited, index)]
    return ClassFindings(
        results=(*of_part, *results),
        draws=ClassDraws(results, drawn.draws, drawn.mixed, drawn.counted) if index in plan.full else None,
        spreads=tuple(summarise_spreads(bench, index, results, choices)),
    )


def _with_interval(
    result: InterventionResult, drawn: Float[np.ndarray, " n_draws"], mixed: Float[np.ndarray, " n_draws"]
) -> InterventionResult:
    low, high = hull_interval(drawn, mixed)
    return dataclasses.replace(result, low=low, high=high)


def _result(bench: Workbench, edited: EditedLogits, matched: Matched, at: tuple[int, int]) -> InterventionResult:
    """Without its interval."""
    index, i = at  # class and target
    strength = float(matched.strengths[i])
    others = matched.accuracies[i, bench.samples.others(index)]
    drift = compute_drift(edited, index, strength)
    weight_change, bias_change = head_change(edited.intervention, bench.head, strength)
    return InterventionResult(
        method=edited.intervention.method,
        class_name=bench.inputs.class_names[index],
        feature=edited.intervention.feature,
        strength=strength,
        target_accuracy=bench.settings.targets[i],
        reached_accuracy=float(matched.accuracies[i, index]),
        reached=bool(matched.reached[i]),
        others_accuracy=float(others.mean()),
        others_worst=float(others.min()),
        kl=drift.kl,
        agreement=drift.agreement,
        weight_change=weight_change,
        area=matched.area,
        low=float("nan"),
        high=float("nan"),
        bias_change=bias_change,
    )
