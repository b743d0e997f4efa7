"""Several edits at once: whether their order matters, and what they cost the classes that nobody edited."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.interventions.registry import REMOVED, SALVE, YARDSTICK, label_method
from salve_audit.report.charts.bundle import MOST_LINES, Axis, Line, draw_bundle
from salve_audit.report.numbers import count, names, percent, percent_interval, plural, points, strength
from salve_audit.report.tables import Column, Table, Value, make_table
from salve_audit.report.view.page import Figure
from salve_audit.results import Composition, CompositionChain, CompositionStep, Stress


def order_sentence(stress: Stress) -> str:
    """A sentence on the methods whose edits commute, and on the effect of the order on the other classes."""
    own = [composition for composition in stress.composition if composition.method != REMOVED.key]
    same = [label_method(composition.method) for composition in own if composition.commutes]
    said = []
    if same:
        gap = max(o.gap for c in stress.chains for o in c.orders if label_method(c.method) in same)
        said.append(
            f"The order of the edits changes nothing under {names(same, len(same))} (largest relative difference of a "
            f"logit: {strength(gap) if gap else 'none'})."
        )
    if len(same) < len(own):
        agreements = [
            f"{label_method(composition.method)} {percent(_agreement(stress, composition.method))}"
            for composition in own
            if not composition.commutes
        ]
        said.append(f"It matters under the others; same predictions in both orders, at worst: {', '.join(agreements)}.")
    return " ".join(said)


def _agreement(stress: Stress, method: str) -> float:
    return min(order.agreement for chain in stress.chains if chain.method == method for order in chain.orders)


def drift_sentence(stress: Stress) -> str:
    """SALVE's drift beside that of removed outputs and of row scaling."""
    by_method = {composition.method: composition for composition in stress.composition}
    salve, removed = by_method.get(SALVE.key), by_method.get(REMOVED.key)
    if salve is None or removed is None:
        return "SALVE brought no set of classes to the target, so its edits could not be combined."
    last = salve.steps[-1]
    said = (
        f"After {plural(last.n_edits, 'edit')} by SALVE the classes that were not edited change by {_change(last)}; "
        f"removing the edited outputs outright changes them by {_change(removed.steps[-1])}"
    )
    trivial = by_method.get(YARDSTICK.key)
    said += f", row scaling by {_change(trivial.steps[-1])}." if trivial is not None else "."
    if salve.gap_high >= 0:
        return f"{said} On the same sets SALVE costs the others nothing that shows in comparison with that yardstick."
    verdict = "edits by SALVE add up to damage" if last.change_high < 0 else "SALVE costs the others some of that gain"
    gap = f"{points(salve.gap)} points, 95 % interval {points(salve.gap_low)} to {points(salve.gap_high)}"
    return f"{said} Compared with that yardstick on the same sets, {verdict} ({gap})."


def _change(step: CompositionStep) -> str:
    low, high = points(step.change_low), points(step.change_high)
    return f"{points(step.change)} points (95 % interval {low} to {high})"


def composition_table(compositions: Sequence[Composition]) -> Table:
    """One line per method: others' change as edits add up, and what is left of the edited classes."""
    steps = max((composition.steps for composition in compositions), key=len)
    shown = sorted({1, 2, steps[-1].n_edits})
    columns = [Column("Method", "name"), Column("Sets"), Column("Order matters", "text")]
    columns += [Column(f"Others after {plural(n, 'edit')}, points") for n in shown]
    columns += [Column("95 % interval, points"), Column("Others' accuracy"), Column("Edited classes' accuracy")]
    rows: list[list[Value]] = []
    for composition in compositions:
        last = composition.steps[-1]
        interval = f"{points(last.change_low)} to {points(last.change_high)}"
        rows.append(
            [
                label_method(composition.method),
                count(composition.n_chains),
                "no" if composition.commutes else "yes",
                *(points(composition.steps[n].change) for n in shown),
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
            label_method(chain.method),
            names(chain.class_names, len(chain.class_names)),
            "most fragile" if chain.fragile else "drawn",
            percent(chain.steps[0].others),
            percent(chain.steps[-1].others),
            percent_interval(chain.steps[-1].low, chain.steps[-1].high),
            percent(chain.orders[-1].agreement),
            points(chain.orders[-1].others_gap),
        ]
        for chain in chains
    ]
    return make_table("Every set of classes", columns, rows, limit, "stress.chains[]")


def drift_figure(compositions: Sequence[Composition]) -> Figure:
    """SALVE between the yardstick, row scaling and the method that costs most among the others."""
    by_method = {composition.method: composition for composition in compositions}
    first = [by_method[m] for m in (SALVE.key, REMOVED.key, YARDSTICK.key) if m in by_method]
    rest = sorted(
        (composition for composition in compositions if composition not in first),
        key=lambda composition: composition.steps[-1].others,
    )
    shown = [*first, *rest][:MOST_LINES]
    n = max(len(composition.steps) for composition in shown)
    lines = [
        Line(
            label_method(composition.method),
            tuple(step.others for step in composition.steps),
            tuple(step.low for step in composition.steps),
            tuple(step.high for step in composition.steps),
        )
        for composition in shown
        if len(composition.steps) == n
    ]
    title = "Accuracy of the classes that are not edited"
    chart = draw_bundle(title, Axis(tuple(range(n)), "edits, one class each"), lines, width=420)
    left = len(compositions) - len(lines)
    note = f"{plural(left, 'further method')}: in the table." if left > 0 else ""
    return Figure("figure-drift", f"{title} as edits add up", (chart,), "stress.composition[]", note=note)
