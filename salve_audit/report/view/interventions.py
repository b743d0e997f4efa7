"""The comparison of interventions: chart and tables, all from one joint bootstrap over samples and classes."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.interventions.registry import METHODS, YARDSTICK, Role, label_method
from salve_audit.report.charts.methods import MethodRow, draw_methods
from salve_audit.report.language import say
from salve_audit.report.numbers import count, percent, percent_interval, points
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.report.view.deep_edits import deep_parts
from salve_audit.report.view.page import Figure, Medium, Section
from salve_audit.report.view.ranking import (
    by_target,
    compare_rome,
    difference_interval,
    headline,
    is_chance,
    rank,
)
from salve_audit.results import AuditResult, MethodSummary

_TOO_FEW = "too few images of each other class were looked at"
_REFERENCE = "the method that the others are compared with"
_NONE_COMMON = "no class that both this method and row scaling bring to the target"


def build_interventions(result: AuditResult, medium: Medium) -> Section:
    """Chart, a table for each target, and the ranking; every class and cost is in the CSV attachments."""
    rows, summaries = result.interventions, result.intervention_summary
    grouped = by_target(summaries)
    parts = {
        "any": bool(rows or summaries),
        "figure": _figure(result) if summaries else None,
        "summary": [_summary_table(own, target) for target, own in grouped.items()],
        "headline": headline(summaries),
        "ranking": rank(summaries),
        "rome_and_steering": compare_rome(rows),
        "deep": deep_parts(result.deep_edits, medium.table_rows),
    }
    return Section("interventions", say("Interventions at matched suppression"), "interventions.html.j2", parts)


def _figure(result: AuditResult) -> Figure:
    summaries = result.intervention_summary
    methods = list(dict.fromkeys(summary.method for summary in summaries))
    panels = []
    for target, own in by_target(summaries).items():
        by_method = {summary.method: summary for summary in own}
        rows = [_method_row(method, by_method.get(method)) for method in methods]
        panels.append((say("class at {x} % accuracy", x=f"{100 * target:g}"), rows))
    before = [
        class_info.curve.others[0] for class_info in result.classes if class_info.curve.others and class_info.n_correct
    ]
    unedited = sum(before) / len(before) if before else None
    caption = say("Accuracy that the other classes keep when each method brings a class to the same accuracy")
    chart = draw_methods(panels, unedited, caption)
    return Figure("figure-interventions", caption, (chart,), "intervention_summary[]")


def _method_row(method: str, summary: MethodSummary | None) -> MethodRow:
    role = METHODS[method].role if method in METHODS else Role.RIVAL
    if summary is None or not summary.n_reached:
        return MethodRow(label_method(method), None, None, None, role)
    return MethodRow(label_method(method), summary.others_accuracy, summary.low, summary.high, role)


def _summary_table(summaries: Sequence[MethodSummary], target: float) -> Table:
    columns = [
        Column(say("Method"), "name"),
        Column(say("Classes that reached it")),
        Column(say("Others' accuracy, mean")),
        Column(say("95 % interval, %")),
        Column(say("Less row scaling, points")),
        Column(say("95 % interval, points")),
        Column(say("Classes in common")),
        Column(say("Beyond chance"), "text"),
    ]
    rows: list[list[Value]] = [
        [
            label_method(summary.method),
            say("{n_reached} of {n_classes}", n_reached=summary.n_reached, n_classes=summary.n_classes),
            percent(summary.others_accuracy),
            percent_interval(summary.low, summary.high),
            *_difference_cells(summary),
        ]
        for summary in summaries
    ]
    caption = say("Class at {x} % accuracy: means over all classes", x=f"{100 * target:g}")
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
    return [
        points(summary.difference),
        interval,
        count(summary.n_common),
        say("no") if is_chance(summary) else say("yes"),
    ]
