"""Several edits at once: whether their order matters, and what they cost the classes that nobody edited."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.report.charts.bundle import MOST_LINES, Axis, Line, draw_bundle
from salve_audit.report.numbers import count, names, percent, percent_interval, plural, points, strength
from salve_audit.report.tables import Column, Table, Value, make_table
from salve_audit.report.view.page import Figure
from salve_audit.report.view.ranking import label
from salve_audit.results import Composition, CompositionChain, CompositionStep, Stress

REMOVED = "output-removed"


def method_label(method: str) -> str:
    """A method's name for readers, the yardstick included."""
    return "output removed (yardstick)" if method == REMOVED else label(method)


def order_sentence(stress: Stress) -> str:
    """Which methods' edits commute, and how much the order matters for the others."""
    own = [one for one in stress.composition if one.method != REMOVED]
    same = [method_label(one.method) for one in own if one.commutes]
    said = []
    if same:
        gap = max(o.gap for c in stress.chains for o in c.orders if method_label(c.method) in same)
        said.append(
            f"The order of the edits changes nothing under {names(same, len(same))} (largest relative difference of a "
            f"logit: {strength(gap) if gap else 'none'})."
        )
    if len(same) < len(own):
        found = [
            f"{method_label(one.method)} {percent(_agreement(stress, one.method))}" for one in own if not one.commutes
        ]
        said.append(f"It matters under the others; same predictions in both orders, at worst: {', '.join(found)}.")
    return " ".join(said)


def _agreement(stress: Stress, method: str) -> float:
    return min(order.agreement for one in stress.chains if one.method == method for order in one.orders)


def drift_sentence(stress: Stress) -> str:
    """SALVE's drift beside that of removed outputs and of row scaling."""
    by_method = {one.method: one for one in stress.composition}
    salve, removed = by_method.get("salve"), by_method.get(REMOVED)
    if salve is None or removed is None:
        return "SALVE brought no set of classes to the target, so its edits could not be combined."
    last = salve.steps[-1]
    said = (
        f"After {plural(last.n_edits, 'edit')} by SALVE the classes that were not edited change by {_change(last)}; "
        f"removing the edited outputs outright changes them by {_change(removed.steps[-1])}"
    )
    trivial = by_method.get("row-scaling")
    said += f", row scaling by {_change(trivial.steps[-1])}." if trivial is not None else "."
    if salve.gap_high >= 0:
        return f"{said} On the same sets SALVE costs the others nothing that shows beside that yardstick."
    verdict = "edits by SALVE add up to damage" if last.change_high < 0 else "SALVE costs the others some of that gain"
    gap = f"{points(salve.gap)} points, 95 % interval {points(salve.gap_low)} to {points(salve.gap_high)}"
    return f"{said} Beside that yardstick on the same sets, {verdict} ({gap})."


def _change(step: CompositionStep) -> str:
    low, high = points(step.change_low), points(step.change_high)
    return f"{points(step.change)} points (95 % interval {low} to {high})"


def composition_table(found: Sequence[Composition]) -> Table:
    """One line per method: others' change as edits add up, and what is left of the edited classes."""
    steps = max((one.steps for one in found), key=len)
    shown = sorted({1, 2, steps[-1].n_edits})
    columns = [Column("Method", "name"), Column("Sets"), Column("Order matters", "text")]
    columns += [Column(f"Others after {plural(n, 'edit')}, points") for n in shown]
    columns += [Column("95 % interval, points"), Column("Others' accuracy"), Column("Edited classes' accuracy")]
    rows: list[list[Value]] = []
    for one in found:
        last = one.steps[-1]
        interval = f"{points(last.change_low)} to {points(last.change_high)}"
        rows.append(
            [
                method_label(one.method),
                count(one.n_chains),
                "no" if one.commutes else "yes",
                *(points(one.steps[n].change) for n in shown),
                interval,
                percent(last.others),
                percent(last.edited or 0.0),
            ]
        )
    caption = f"Edits added up, means over the sets; intervals after {plural(shown[-1], 'edit')}"
    return make_table(caption, columns, rows, len(rows), "stress.composition[]")


def chain_table(chains: Sequence[CompositionChain], limit: int) -> Table:
    """Every set of classes under every method."""
    columns = [Column("Method", "name"), Column("Classes, in order", "wrap"), Column("Chosen", "text")]
    columns += [Column("Others before"), Column("Others after"), Column("95 % interval, %")]
    columns += [Column("Same predictions, reversed"), Column("Others reversed, points")]
    rows: list[list[Value]] = [
        [
            method_label(one.method),
            names(one.class_names, len(one.class_names)),
            "most fragile" if one.fragile else "drawn",
            percent(one.steps[0].others),
            percent(one.steps[-1].others),
            percent_interval(one.steps[-1].low, one.steps[-1].high),
            percent(one.orders[-1].agreement),
            points(one.orders[-1].others_gap),
        ]
        for one in chains
    ]
    return make_table("Every set of classes", columns, rows, limit, "stress.chains[]")


def drift_figure(found: Sequence[Composition]) -> Figure:
    """SALVE between the yardstick, row scaling and the method that costs most among the others."""
    by_method = {one.method: one for one in found}
    first = [by_method[m] for m in ("salve", REMOVED, "row-scaling") if m in by_method]
    rest = sorted((one for one in found if one not in first), key=lambda one: one.steps[-1].others)
    shown = [*first, *rest][:MOST_LINES]
    n = max(len(one.steps) for one in shown)
    lines = [
        Line(
            method_label(one.method),
            tuple(step.others for step in one.steps),
            tuple(step.low for step in one.steps),
            tuple(step.high for step in one.steps),
        )
        for one in shown
        if len(one.steps) == n
    ]
    title = "Accuracy of the classes that are not edited"
    chart = draw_bundle(title, Axis(tuple(range(n)), "edits, one class each"), lines, width=420)
    left = len(found) - len(lines)
    note = f"{plural(left, 'further method')}: in the table." if left > 0 else ""
    return Figure("figure-drift", f"{title} as edits add up", (chart,), "stress.composition[]", note=note)
