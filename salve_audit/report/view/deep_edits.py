"""Edits of the layers before the head, beside edits of the head on the same pictures: sentences and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from salve_audit.report.numbers import count, names, percent, percent_interval, plural, points, strength
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.report.view.ranking import label
from salve_audit.results import DeepComparison, DeepResult, DeepScope

_SAME = "the method that the others are compared with"
_MISSED = "it or SALVE does not bring the class to the target"


def deep_parts(found: DeepComparison | None, limit: int) -> Mapping[str, Any] | None:
    """What the template prints; None where deep edits were not asked for."""
    if found is None:
        return None
    if found.reason:
        return {"missing": f"Not measured: {found.reason}.", "notes": found.notes}
    targets = sorted({one.target_accuracy for one in found.results}, reverse=True)
    return {
        "missing": "",
        "scope": _scope_sentence(found),
        "verdict": verdict(found),
        "edited": [_edited_sentence(one) for one in found.scopes],
        "tables": [_table([one for one in found.results if one.target_accuracy == at], at, limit) for at in targets],
        "notes": found.notes,
    }


def _scope_sentence(found: DeepComparison) -> str:
    return (
        f"On a part of the audit pictures only, since every strength needs runs of the real network: "
        f"{count(found.n_samples)} pictures, {names(found.class_names)} edited, on at most "
        f"{plural(found.n_per_class, 'picture')} of each. SALVE, steering and row scaling are matched again on the "
        f"same pictures, so their numbers differ from those above."
    )


def verdict(found: DeepComparison) -> str:
    """How the deep edits fare beside SALVE, in one or two sentences."""
    return " ".join(_fares(scope.method, found.results) for scope in found.scopes)


def _fares(method: str, results: Sequence[DeepResult]) -> str:
    own = [one for one in results if one.method == method]
    reached = [one for one in own if one.reached]
    name = label(method)
    start = f"{name[:1].upper()}{name[1:]} reaches {len(reached)} of {len(own)} targets"
    told = [one for one in reached if one.to_salve is not None]
    if not told:
        return f"{start}."
    mean = sum(one.to_salve or 0.0 for one in told) / len(told)
    better, worse = (sum(1 for one in told if _is_apart(one, sign)) for sign in (1, -1))
    mean = round(mean, 3)
    kept = (
        f"{abs(100 * mean):.1f} points {'more' if mean > 0 else 'less'} than with SALVE"
        if mean
        else "as much as with SALVE"
    )
    beyond = f"by the 95 % intervals more in {better} and less in {worse} of {len(told)}"
    return f"{start}; there the other classes keep {kept} on average, {beyond}."


def _is_apart(one: DeepResult, sign: int) -> bool:
    low, high = one.to_salve_low, one.to_salve_high
    return low is not None and high is not None and (low > 0 if sign > 0 else high < 0)


def _edited_sentence(scope: DeepScope) -> str:
    name = label(scope.method)
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
            one.class_name,
            label(one.method),
            strength(one.strength),
            f"{percent(one.reached_accuracy)}{'' if one.reached else ' (missed)'}",
            percent(one.others_accuracy),
            percent_interval(one.low, one.high),
            *_difference(one),
            percent(one.others_worst),
            strength(one.kl),
            percent(one.agreement),
            percent(one.weight_change),
        ]
        for one in results
    ]
    caption = f"Deeper edits, class at {100 * target:g} % accuracy, on a part of the pictures"
    return make_table(caption, columns, rows, limit, "deep_edits.results[]")


def _difference(one: DeepResult) -> list[Value]:
    if one.to_salve is None or one.to_salve_low is None or one.to_salve_high is None:
        return [Missing(_SAME if one.method == "salve" else _MISSED)] * 2
    return [points(one.to_salve), f"{points(one.to_salve_low)} to {points(one.to_salve_high)}"]
