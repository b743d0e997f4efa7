"""The comparison of interventions, and the sentence that ranks them by what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from salve_audit.report.charts.methods import MethodRow, draw_methods
from salve_audit.report.numbers import count, percent, percent_interval, plural, points, strength
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.report.view.page import Figure, Medium, Section
from salve_audit.results import AuditResult, InterventionResult, MethodSpread

LABELS = {
    "salve": "SALVE",
    "steering": "activation steering",
    "rome": "ROME",
    "rome-paper": "ROME, paper's code",
    "rome-cov": "ROME, covariance",
    "ablation": "directional ablation",
    "leace": "LEACE",
    "row-scaling": "row scaling (trivial)",
    "null-permuted": "null: permuted",
    "null-random": "null: random feature",
}
_NOT_REACHED = "no class reached the target with this method"


@dataclass(frozen=True)
class Group:
    """One method at one target: its rows by class, and those that reached the target."""

    method: str
    target: float
    rows: tuple[InterventionResult, ...]

    @property
    def reached(self) -> dict[str, InterventionResult]:
        return {row.class_name: row for row in self.rows if row.reached}

    def mean(self, field: str) -> float | None:
        """Mean of a field over the classes that reached the target."""
        values = [float(getattr(row, field)) for row in self.reached.values()]
        return sum(values) / len(values) if values else None


def label(method: str) -> str:
    """A method's name for readers."""
    return LABELS.get(method, method)


def grouped(rows: Sequence[InterventionResult]) -> list[Group]:
    """All methods at all targets, the higher target first, methods in the order in which they were measured."""
    targets = sorted({row.target_accuracy for row in rows}, reverse=True)
    methods = list(dict.fromkeys(row.method for row in rows))
    found = []
    for target in targets:
        for method in methods:
            own = tuple(r for r in rows if r.method == method and r.target_accuracy == target)
            if own:
                found.append(Group(method, target, own))
    return found


def build_interventions(result: AuditResult, medium: Medium) -> Section:
    """Chart, tables and the ranking."""
    groups = grouped(result.interventions)
    parts = {
        "figure": _figure(result, groups) if groups else None,
        "summary": _summary_table(groups, medium.table_rows),
        "spread": _spread_table(result.intervention_spread, medium.table_rows) if result.intervention_spread else None,
        "each": _class_table(result.interventions, medium.table_rows) if medium.numbers and groups else None,
        "ranking": rank(groups),
    }
    return Section("interventions", "Interventions at matched suppression", "interventions.html.j2", parts)


def _figure(result: AuditResult, groups: Sequence[Group]) -> Figure:
    targets = list(dict.fromkeys(group.target for group in groups))
    methods = list(dict.fromkeys(group.method for group in groups))
    by_key = {(group.method, group.target): group for group in groups}
    panels = []
    for target in targets:
        rows = []
        for method in methods:
            group = by_key.get((method, target), Group(method, target, ()))
            kind = "salve" if method == "salve" else "null" if method.startswith("null") else "rival"
            means = (group.mean("others_accuracy"), group.mean("low"), group.mean("high"))
            rows.append(MethodRow(label(method), *means, kind))
        panels.append((f"class at {100 * target:g} % accuracy", rows))
    before = [one.curve.others[0] for one in result.classes if one.curve.others and one.n_correct]
    unedited = sum(before) / len(before) if before else None
    caption = "Accuracy that the other classes keep when each method brings a class to the same accuracy"
    return Figure("figure-interventions", caption, (draw_methods(panels, unedited, caption),), "interventions[]")


def _summary_table(groups: Sequence[Group], limit: int) -> Table:
    columns = [
        Column("Method", "name"),
        Column("Target"),
        Column("Classes that reached it"),
        Column("Others' accuracy"),
        Column("Mean 95 % bounds, %"),
        Column("Worst class"),
        Column("KL, nats"),
        Column("Agreement"),
        Column("Weight change"),
        Column("Area"),
    ]
    rows: list[list[Value]] = []
    for group in groups:
        head: list[Value] = [
            label(group.method),
            f"{100 * group.target:g} %",
            f"{len(group.reached)} of {len(group.rows)}",
        ]
        if not group.reached:
            rows.append([*head, *[Missing(_NOT_REACHED)] * 7])
            continue
        worst = min(row.others_worst for row in group.reached.values())
        rows.append(
            [
                *head,
                percent(group.mean("others_accuracy") or 0.0),
                percent_interval(group.mean("low") or 0.0, group.mean("high") or 0.0),
                percent(worst),
                strength(group.mean("kl") or 0.0),
                percent(group.mean("agreement") or 0.0),
                percent(group.mean("weight_change") or 0.0),
                f"{group.mean('area') or 0.0:.3f}",
            ]
        )
    return make_table("Means over the classes that reached the target", columns, rows, limit, "interventions[]")


def _class_table(results: Sequence[InterventionResult], limit: int) -> Table:
    heads = ("Target", "Reached", "Others' accuracy", "95 % interval, %", "Worst class", "KL, nats", "Weight change")
    columns = [Column("Class", "name"), Column("Method", "text"), *(Column(head) for head in heads)]
    rows: list[list[Value]] = [
        [
            row.class_name,
            label(row.method),
            f"{100 * row.target_accuracy:g} %",
            f"{percent(row.reached_accuracy)}{'' if row.reached else ' (missed)'}",
            percent(row.others_accuracy),
            percent_interval(row.low, row.high),
            percent(row.others_worst),
            strength(row.kl),
            percent(row.weight_change),
        ]
        for row in results
    ]
    return make_table("Every class and method", columns, rows, limit, "interventions[]")


def _spread_table(spreads: Sequence[MethodSpread], limit: int) -> Table:
    """Per method and target: means over classes, and the class on which the choice of a key matters most."""
    heads = ("Target", "Classes", "Mean lowest", "Mean median", "Mean highest", "Widest range, points")
    columns = [Column("Method", "name"), *(Column(head) for head in heads), Column("Widest in", "wrap")]
    rows: list[list[Value]] = []
    for method, target in dict.fromkeys((one.method, one.target_accuracy) for one in spreads):
        own = [one for one in spreads if (one.method, one.target_accuracy) == (method, target)]
        widest = max(own, key=lambda one: one.high - one.low)
        means = [sum(values) / len(own) for values in zip(*((o.low, o.median, o.high) for o in own), strict=True)]
        head = [label(method), f"{100 * target:g} %", count(len(own))]
        rows.append([*head, *map(percent, means), f"{100 * (widest.high - widest.low):.1f}", widest.class_name])
    caption = "Others' accuracy over the free choice of a key picture"
    return make_table(caption, columns, rows, limit, "intervention_spread[]")


def rank(groups: Sequence[Group]) -> tuple[tuple[str, str], ...]:
    """Per target the order by others' accuracy, and what it means for SALVE beside the trivial edit."""
    targets = list(dict.fromkeys(group.target for group in groups))
    return tuple(_rank_one([group for group in groups if group.target == target]) for target in targets)


def _rank_one(groups: Sequence[Group]) -> tuple[str, str]:
    at = f"{100 * groups[0].target:g} %"
    salve = next((group for group in groups if group.method == "salve"), None)
    if salve is None or not salve.reached:
        return f"At {at} accuracy of the class:", "SALVE brought no class to the target, so there is nothing to rank."
    rivals = [group for group in groups if not group.method.startswith("null") and group.reached]
    order = sorted(rivals, key=lambda group: -(group.mean("others_accuracy") or 0.0))
    listed = ", ".join(map(_standing, order))
    trivial = next((group for group in groups if group.method == "row-scaling"), None)
    place = f"SALVE is number {order.index(salve) + 1} of {len(order)}."
    order_text = f"At {at} accuracy of the class, the others keep on average: {listed}."
    return order_text, f"{place} {_against(salve, trivial)}" if trivial is not None else place


def _standing(group: Group) -> str:
    some = "" if len(group.reached) == len(group.rows) else f" (in {len(group.reached)} of {len(group.rows)} classes)"
    return f"{label(group.method)} {percent(group.mean('others_accuracy') or 0.0)}{some}"


def _against(salve: Group, trivial: Group) -> str:
    """SALVE beside the trivial edit on the classes that both brought to the target."""
    both = sorted(salve.reached.keys() & trivial.reached.keys())
    if not both:
        return "SALVE and plain row scaling reached the target on no common class."
    gaps = [salve.reached[c].others_accuracy - trivial.reached[c].others_accuracy for c in both]
    mean = sum(gaps) / len(gaps)
    better = sum(gap > 0 for gap in gaps)
    where = f"on average over {plural(len(both), 'class', 'classes')} (SALVE ahead in {better})"
    if abs(mean) < 0.0005:
        return f"SALVE and plain row scaling keep the same to 0.1 points {where}."
    if mean < 0:
        return (
            f"Plain row scaling, which needs no autoencoder, keeps {points(-mean)[1:]} points more than SALVE {where}."
        )
    return f"SALVE keeps {points(mean)[1:]} points more than plain row scaling {where}."
