"""Edits of the layers before the head, beside edits of the head on the same images: sentences and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from salve_audit.interventions.registry import SALVE, label_method
from salve_audit.report.language import plural, say
from salve_audit.report.numbers import count, names, percent, percent_interval, points, strength
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.results import DeepComparison, DeepResult, DeepScope

_SAME = "the method that the others are compared with"
_MISSED = "it or SALVE does not bring the class to the target"


def deep_parts(comparison: DeepComparison | None, limit: int) -> Mapping[str, Any] | None:
    """The parts that the template prints; None where no deep edits were wanted."""
    if comparison is None:
        return None
    if comparison.reason:
        return {"missing": say("Not measured: {reason}.", reason=comparison.reason), "notes": comparison.notes}
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
    return say(
        "On a part of the audit images only, since every strength needs runs of the real network: {n_samples} "
        "images, {class_names} edited, on at most {n_per_class} of each. SALVE, steering and row scaling are "
        "matched again on the same images, so their numbers differ from those above.",
        n_samples=count(comparison.n_samples),
        class_names=names(comparison.class_names),
        n_per_class=plural(comparison.n_per_class, "image"),
    )


def verdict(comparison: DeepComparison) -> str:
    """One or two sentences that compare the deep edits with SALVE."""
    return " ".join(_fares(scope.method, comparison.results) for scope in comparison.scopes)


def _fares(method: str, results: Sequence[DeepResult]) -> str:
    own = [row for row in results if row.method == method]
    reached = [row for row in own if row.reached]
    name = label_method(method)
    start = say(
        "{x}{name} reaches {reached} of {own} targets",
        x=name[:1].upper(),
        name=name[1:],
        reached=len(reached),
        own=len(own),
    )
    compared = [row for row in reached if row.to_salve is not None]
    if not compared:
        return f"{start}."
    mean = sum(row.to_salve or 0.0 for row in compared) / len(compared)
    better, worse = (sum(1 for row in compared if _is_apart(row, sign)) for sign in (1, -1))
    mean = round(mean, 3)
    difference = (
        say("{x} points {x2} than with SALVE", x=f"{abs(100 * mean):.1f}", x2="more" if mean > 0 else "less")
        if mean
        else say("as much as with SALVE")
    )
    beyond = say(
        "by the 95 % intervals more in {better} and less in {worse} of {compared}",
        better=better,
        worse=worse,
        compared=len(compared),
    )
    return say(
        "{start}; there the other classes keep {difference} on average, {beyond}.",
        start=start,
        difference=difference,
        beyond=beyond,
    )


def _is_apart(row: DeepResult, sign: int) -> bool:
    low, high = row.to_salve_low, row.to_salve_high
    return low is not None and high is not None and (low > 0 if sign > 0 else high < 0)


def _edited_sentence(scope: DeepScope) -> str:
    name = label_method(scope.method)
    layers, first = names(scope.layers, 6), scope.runs_from
    text = say(
        "{x}{name} changes {layers}; only what comes from {first} on ran again.",
        x=name[:1].upper(),
        name=name[1:],
        layers=layers,
        first=first,
    )
    if scope.feature_left is not None and scope.distance is not None:
        text += say(
            " At strength 1, where the exact projection of the head's input would leave nothing of the feature, "
            "{feature_left} of its reading is left, and the head's input is off by {distance} of what that "
            "projection moves.",
            feature_left=percent(scope.feature_left),
            distance=percent(scope.distance),
        )
    return text + (
        say(" Left as it is: {left}.", left=scope.left)
        if scope.left
        else say(" Nothing else writes into the same sum.")
    )


def _table(results: Sequence[DeepResult], target: float, limit: int) -> Table:
    heads = (
        say("Strength"),
        say("Reached"),
        say("Others' accuracy"),
        say("95 % interval, %"),
        say("Less SALVE, points"),
    )
    more = (say("95 % interval, points"), say("Worst class"), say("KL, nats"), say("Agreement"), say("Weight change"))
    columns = [Column(say("Class"), "name"), Column(say("Method"), "text"), *(Column(head) for head in (*heads, *more))]
    rows: list[list[Value]] = [
        [
            row.class_name,
            label_method(row.method),
            strength(row.strength),
            f"{percent(row.reached_accuracy)}{'' if row.reached else say(' (missed)')}",
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
    caption = say("Deeper edits, class at {x} % accuracy, on a part of the images", x=f"{100 * target:g}")
    return make_table(caption, columns, rows, limit, "deep_edits.results[]")


def _difference(row: DeepResult) -> list[Value]:
    if row.to_salve is None or row.to_salve_low is None or row.to_salve_high is None:
        return [Missing(_SAME if row.method == SALVE.key else _MISSED)] * 2
    return [
        points(row.to_salve),
        say(
            "{to_salve_low} to {to_salve_high}",
            to_salve_low=points(row.to_salve_low),
            to_salve_high=points(row.to_salve_high),
        ),
    ]
