"""The comparison of interventions: chart and tables, all from one joint bootstrap over samples and classes."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.interventions.registry import METHODS, YARDSTICK, Role, label_method
from salve_audit.report.charts.methods import MethodRow, draw_methods
from salve_audit.report.numbers import count, p_value, percent, percent_interval, points, strength
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.report.view.deep_edits import deep_parts
from salve_audit.report.view.page import Figure, Medium, Section
from salve_audit.report.view.ranking import (
    by_target,
    compare_rome,
    difference_interval,
    headline,
    is_chance,
    is_distinguished,
    rank,
    salve_interval,
)
from salve_audit.results import AuditResult, InterventionResult, MethodSpread, MethodSummary

_TOO_FEW = "too few images of each other class were looked at"
_REFERENCE = "the method that the others are compared with"
_NONE_COMMON = "no class that both this method and row scaling bring to the target"


def build_interventions(result: AuditResult, medium: Medium) -> Section:
    """Chart, tables and the ranking."""
    rows, summaries = result.interventions, result.intervention_summary
    grouped = by_target(summaries)
    costs = [_cost_table([row for row in rows if row.target_accuracy == target], target) for target in grouped]
    parts = {
        "any": bool(rows or summaries),
        "figure": _figure(result) if summaries else None,
        "summary": [_summary_table(own, target) for target, own in grouped.items()],
        "paired": [table for target, own in grouped.items() if (table := _salve_table(own, target)).rows],
        "costs": [table for table in costs if table.rows],
        "area": _area_table(summaries) if summaries else None,
        "spread": _spread_tables(result.intervention_spread, medium.table_rows),
        "each": _class_table(rows, medium.table_rows) if medium.numbers and rows else None,
        "headline": headline(summaries),
        "ranking": rank(summaries),
        "rome_and_steering": compare_rome(rows),
        "deep": deep_parts(result.deep_edits, medium.table_rows),
    }
    return Section("interventions", "Interventions at matched suppression", "interventions.html.j2", parts)


def _figure(result: AuditResult) -> Figure:
    summaries = result.intervention_summary
    methods = list(dict.fromkeys(summary.method for summary in summaries))
    panels = []
    for target, own in by_target(summaries).items():
        by_method = {summary.method: summary for summary in own}
        rows = [_method_row(method, by_method.get(method)) for method in methods]
        panels.append((f"class at {100 * target:g} % accuracy", rows))
    before = [
        class_info.curve.others[0] for class_info in result.classes if class_info.curve.others and class_info.n_correct
    ]
    unedited = sum(before) / len(before) if before else None
    caption = "Accuracy that the other classes keep when each method brings a class to the same accuracy"
    chart = draw_methods(panels, unedited, caption)
    return Figure("figure-interventions", caption, (chart,), "intervention_summary[]")


def _method_row(method: str, summary: MethodSummary | None) -> MethodRow:
    role = METHODS[method].role if method in METHODS else Role.RIVAL
    if summary is None or not summary.n_reached:
        return MethodRow(label_method(method), None, None, None, role)
    return MethodRow(label_method(method), summary.others_accuracy, summary.low, summary.high, role)


def _summary_table(summaries: Sequence[MethodSummary], target: float) -> Table:
    columns = [
        Column("Method", "name"),
        Column("Classes that reached it"),
        Column("Others' accuracy, mean"),
        Column("95 % interval, %"),
        Column("Less row scaling, points"),
        Column("95 % interval, points"),
        Column("Classes in common"),
        Column("Beyond chance", "text"),
    ]
    rows: list[list[Value]] = [
        [
            label_method(summary.method),
            f"{summary.n_reached} of {summary.n_classes}",
            percent(summary.others_accuracy),
            percent_interval(summary.low, summary.high),
            *_difference_cells(summary),
        ]
        for summary in summaries
    ]
    caption = f"Class at {100 * target:g} % accuracy: means over all classes"
    return make_table(caption, columns, rows, len(rows), "intervention_summary[]")


def _difference_cells(summary: MethodSummary) -> list[Value]:
    if summary.method == YARDSTICK.key:
        return [Missing(_REFERENCE)] * 4
    if summary.difference is None or not summary.n_common:
        return [Missing(_NONE_COMMON)] * 4
    interval = difference_interval(summary)
    if interval is None:
        thin = Missing("too few draws for an interval")
        return [points(summary.difference), thin, count(summary.n_common), thin]
    return [points(summary.difference), interval, count(summary.n_common), "no" if is_chance(summary) else "yes"]


def _salve_table(summaries: Sequence[MethodSummary], target: float) -> Table:
    """Every method against SALVE, paired over the classes that both bring to the target."""
    heads = ("Classes in common", "Less SALVE, points", "95 % interval, points", "p", "p, Holm")
    columns = [Column("Method", "name"), *(Column(head) for head in heads), Column("Distinguished", "text")]
    rows: list[list[Value]] = [
        [
            label_method(summary.method),
            count(summary.n_common_salve),
            points(summary.to_salve),
            salve_interval(summary) or Missing("too few draws for an interval"),
            p_value(summary.p_salve),
            p_value(summary.p_salve_holm),
            "yes" if is_distinguished(summary) else "no",
        ]
        for summary in summaries
        if summary.to_salve is not None and summary.p_salve is not None and summary.p_salve_holm is not None
    ]
    caption = f"Class at {100 * target:g} % accuracy: others' accuracy of each method less that of SALVE"
    return make_table(caption, columns, rows, len(rows), "intervention_summary[]")


def _cost_table(results: Sequence[InterventionResult], target: float) -> Table:
    """Table of further costs of the edits besides the others' mean accuracy, over all classes as well."""
    heads = ("Worst other class", "KL, nats", "Agreement", "Weight change", "Bias change")
    columns = [Column("Method", "name"), *(Column(head) for head in heads)]
    rows: list[list[Value]] = []
    for method in dict.fromkeys(row.method for row in results):
        own = [row for row in results if row.method == method]
        rows.append(
            [
                label_method(method),
                _worst([row.others_worst for row in own]),
                strength(_mean([row.kl for row in own])),
                percent(_mean([row.agreement for row in own])),
                percent(_mean([row.weight_change for row in own])),
                percent(_mean([row.bias_change for row in own])),
            ]
        )
    caption = f"Class at {100 * target:g} % accuracy: what the edits change, over all classes"
    return make_table(caption, columns, rows, len(rows), "interventions[]")


def _worst(values: Sequence[float | None]) -> Value:
    """The lowest that was measured."""
    numbers = [value for value in values if value is not None]
    return percent(min(numbers)) if numbers else Missing(_TOO_FEW)


def _area_table(summaries: Sequence[MethodSummary]) -> Table:
    """One value per method: the area runs over all strengths, so it knows no target."""
    areas = {summary.method: summary.area for summary in summaries}
    rows: list[list[Value]] = [[label_method(method), f"{area:.3f}"] for method, area in areas.items()]
    return make_table(
        "Area per method", [Column("Method", "name"), Column("Area")], rows, len(rows), "intervention_summary[]"
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _class_table(results: Sequence[InterventionResult], limit: int) -> Table:
    heads = (
        "Target",
        "Reached",
        "Others' accuracy",
        "95 % interval, %",
        "Worst class",
        "KL, nats",
        "Weight change",
        "Bias change",
    )
    columns = [Column("Class", "name"), Column("Method", "text"), *(Column(head) for head in heads)]
    rows: list[list[Value]] = [
        [
            row.class_name,
            label_method(row.method),
            f"{100 * row.target_accuracy:g} %",
            f"{percent(row.reached_accuracy)}{'' if row.reached else ' (missed)'}",
            percent(row.others_accuracy),
            percent_interval(row.low, row.high),
            _worst([row.others_worst]),
            strength(row.kl),
            percent(row.weight_change),
            percent(row.bias_change),
        ]
        for row in results
    ]
    return make_table("Every class and method", columns, rows, limit, "interventions[]")


_CHOICES = {
    "keys": "the free choice of a key image",
    "seeds": "the seed of the autoencoder, the audited one among them",
}


def _spread_tables(spreads: Sequence[MethodSpread], limit: int) -> list[Table]:
    """One for ROME's keys, one for the autoencoder's seeds, as far as they were measured."""
    grouped = {over: [spread for spread in spreads if spread.over == over] for over in _CHOICES}
    return [_spread_table(own, limit, _CHOICES[over]) for over, own in grouped.items() if own]


def _spread_table(spreads: Sequence[MethodSpread], limit: int, choice: str) -> Table:
    """Per method and target: means over classes, and the class on which the choice matters most."""
    heads = ("Target", "Classes", "Mean lowest", "Mean median", "Mean highest", "Widest range, points")
    columns = [Column("Method", "name"), *(Column(head) for head in heads), Column("Widest in", "wrap")]
    rows: list[list[Value]] = []
    for method, target in dict.fromkeys((spread.method, spread.target_accuracy) for spread in spreads):
        own = [spread for spread in spreads if (spread.method, spread.target_accuracy) == (method, target)]
        widest = max(own, key=lambda spread: spread.high - spread.low)
        means = [sum(values) / len(own) for values in zip(*((o.low, o.median, o.high) for o in own), strict=True)]
        head = [label_method(method), f"{100 * target:g} %", count(len(own))]
        rows.append([*head, *map(percent, means), f"{100 * (widest.high - widest.low):.1f}", widest.class_name])
    caption = f"Others' accuracy over {choice}"
    return make_table(caption, columns, rows, limit, "intervention_spread[]")
