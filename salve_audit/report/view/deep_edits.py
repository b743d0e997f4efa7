"""Edits of the layers before the head, beside edits of the head on the same images: sentences and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from salve_audit.interventions.registry import SALVE, label_method
from salve_audit.report.numbers import count, names, percent, percent_interval, plural, points, strength
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.results import DeepComparison, DeepResult, DeepScope

_SAME = "the method that the others are compared with"
_MISSED = "it or SALVE does not bring the class to the target"


def deep_parts(comparison: DeepComparison | None, limit: int) -> Mapping[str, Any] | None:
    """The parts that the template prints; None where no deep edits were wanted."""
    if comparison is None:
        return None
    if comparison.reason:
        return {"missing": f"Not measured: {comparison.reason}.", "notes": comparison.notes}
    targets = sorted({row.target_accuracy for row in comparison.results}, reverse=True)
    return {
        "missing": "",
        "scope": _scope_sentence(comparison),
        "verdict": verdict(comparison),
        "edited": [_edited_sentence(scope) for scope in comparison.scopes],
        "tables": [
            _table([row for row in comparison.results if row.target_accuracy == at], at, limit) for at in targets
        ],
        "notes": comparison.notes,
    }


def _scope_sentence(comparison: DeepComparison) -> str:
    return (
        f"On a part of the audit images only, since every strength needs runs of the real network: "
        f"{count(comparison.n_samples)} images, {names(comparison.class_names)} edited, on at most "
        f"{plural(comparison.n_per_class, 'image')} of each. SALVE, steering and row scaling are matched again on the "
        f"same images, so their numbers differ from those above."
    )


def verdict(comparison: DeepComparison) -> str:
    """One or two sentences that compare the deep edits with SALVE."""
    return " ".join(_fares(scope.method, comparison.results) for scope in comparison.scopes)


def _fares(method: str, results: Sequence[DeepResult]) -> str:
    own = [row for row in results if row.method == method]
    reached = [row for row in own if row.reached]
    name = label_method(method)
    start = f"{name[:1].upper()}{name[1:]} reaches {len(reached)} of {len(own)} targets"
    compared = [row for row in reached if row.to_salve is not None]
    if not compared:
        return f"{start}."
    mean = sum(row.to_salve or 0.0 for row in compared) / len(compared)
    better, worse = (sum(1 for row in compared if _is_apart(row, sign)) for sign in (1, -1))
    mean = round(mean, 3)
    difference = (
        f"{abs(100 * mean):.1f} points {'more' if mean > 0 else 'less'} than with SALVE"
        if mean
        else "as much as with SALVE"
    )
    beyond = f"by the 95 % intervals more in {better} and less in {worse} of {len(compared)}"
    return f"{start}; there the other classes keep {difference} on average, {beyond}."


def _is_apart(row: DeepResult, sign: int) -> bool:
    low, high = row.to_salve_low, row.to_salve_high
    return low is not None and high is not None and (low > 0 if sign > 0 else high < 0)


def _edited_sentence(scope: DeepScope) -> str:
    name = label_method(scope.method)
    layers, first = names(scope.layers, 6), scope.runs_from
    text = f"{name[:1].upper()}{name[1:]} changes {layers}; only what comes from {first} on ran again."
    if scope.feature_left is not None and scope.distance is not None:
        text += (
            f" At strength 1, where the exact projection of the head's input would leave nothing of the feature, "
            f"{percent(scope.feature_left)} of its reading is left, and the head's input is off by "
            f"{percent(scope.distance)} of what that projection moves."
        )
    return text + (f" Left as it is: {scope.left}." if scope.left else " Nothing else writes into the same sum.")


def _table(results: Sequence[DeepResult], target: float, limit: int) -> Table:
    heads = ("Strength", "Reached", "Others' accuracy", "95 % interval, %", "Less SALVE, points")
    more = ("95 % interval, points", "Worst class", "KL, nats", "Agreement", "Weight change")
    columns = [Column("Class", "name"), Column("Method", "text"), *(Column(head) for head in (*heads, *more))]
    rows: list[list[Value]] = [
        [
            row.class_name,
            label_method(row.method),
            strength(row.strength),
            f"{percent(row.reached_accuracy)}{'' if row.reached else ' (missed)'}",
            percent(row.others_accuracy),
            percent_interval(row.low, row.high),
            *_difference(row),
            percent(row.others_worst),
            strength(row.kl),
            percent(row.agreement),
            percent(row.weight_change),
        ]
        for row in results
    ]
    caption = f"Deeper edits, class at {100 * target:g} % accuracy, on a part of the images"
    return make_table(caption, columns, rows, limit, "deep_edits.results[]")


def _difference(row: DeepResult) -> list[Value]:
    if row.to_salve is None or row.to_salve_low is None or row.to_salve_high is None:
        return [Missing(_SAME if row.method == SALVE.key else _MISSED)] * 2
    return [points(row.to_salve), f"{points(row.to_salve_low)} to {points(row.to_salve_high)}"]
