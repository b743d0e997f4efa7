"""Several edits at once: whether their order matters, and what they cost the classes that nobody edited."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.interventions.registry import REMOVED, SALVE, YARDSTICK, label_method
from salve_audit.report.charts.bundle import MOST_LINES, Axis, Line, draw_bundle
from salve_audit.report.language import plural, say
from salve_audit.report.numbers import count, names, percent, percent_interval, points, strength
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
            say(
                "The order of the edits changes nothing under {same} (largest relative difference of a logit: {x}).",
                same=names(same, len(same)),
                x=strength(gap) if gap else say("none"),
            )
        )
    if len(same) < len(own):
        agreements = [
            f"{label_method(composition.method)} {percent(_agreement(stress, composition.method))}"
            for composition in own
            if not composition.commutes
        ]
        said.append(
            say(
                "It matters under the others; same predictions in both orders, at worst: {agreements}.",
                agreements=", ".join(agreements),
            )
        )
    return " ".join(said)


def _agreement(stress: Stress, method: str) -> float:
    return min(order.agreement for chain in stress.chains if chain.method == method for order in chain.orders)


def drift_sentence(stress: Stress) -> str:
    """SALVE's drift beside that of removed outputs and of row scaling."""
    by_method = {composition.method: composition for composition in stress.composition}
    salve, removed = by_method.get(SALVE.key), by_method.get(REMOVED.key)
    if salve is None or removed is None:
        return say("SALVE brought no set of classes to the target, so its edits could not be combined.")
    last = salve.steps[-1]
    said = say(
        "After {n_edits} by SALVE the classes that were not edited change by {last}; removing the edited outputs "
        "outright changes them by {steps}",
        n_edits=plural(last.n_edits, "edit"),
        last=_change(last),
        steps=_change(removed.steps[-1]),
    )
    trivial = by_method.get(YARDSTICK.key)
    said += say(", row scaling by {steps}.", steps=_change(trivial.steps[-1])) if trivial is not None else "."
    if salve.gap_high >= 0:
        return say(
            "{said} On the same sets SALVE costs the others nothing that shows in comparison with that yardstick.",
            said=said,
        )
    verdict = (
        say("edits by SALVE add up to damage")
        if last.change_high < 0
        else say("SALVE costs the others some of that gain")
    )
    gap = say(
        "{gap} points, 95 % interval {gap_low} to {gap_high}",
        gap=points(salve.gap),
        gap_low=points(salve.gap_low),
        gap_high=points(salve.gap_high),
    )
    return say(
        "{said} Compared with that yardstick on the same sets, {verdict} ({gap}).", said=said, verdict=verdict, gap=gap
    )


def _change(step: CompositionStep) -> str:
    low, high = points(step.change_low), points(step.change_high)
    return say("{change} points (95 % interval {low} to {high})", change=points(step.change), low=low, high=high)


def composition_table(compositions: Sequence[Composition]) -> Table:
    """One line per method: others' change as edits add up, and what is left of the edited classes."""
    steps = max((composition.steps for composition in compositions), key=len)
    shown = sorted({1, 2, steps[-1].n_edits})
    columns = [Column(say("Method"), "name"), Column(say("Sets")), Column(say("Order matters"), "text")]
    columns += [Column(say("Others after {n}, points", n=plural(n, "edit"))) for n in shown]
    columns += [
        Column(say("95 % interval, points")),
        Column(say("Others' accuracy")),
        Column(say("Edited classes' accuracy")),
    ]
    rows: list[list[Value]] = []
    for composition in compositions:
        last = composition.steps[-1]
        interval = say(
            "{change_low} to {change_high}", change_low=points(last.change_low), change_high=points(last.change_high)
        )
        rows.append(
            [
                label_method(composition.method),
                count(composition.n_chains),
                say("no") if composition.commutes else say("yes"),
                *(points(composition.steps[n].change) for n in shown),
                interval,
                percent(last.others),
                percent(last.edited or 0.0),
            ]
        )
    caption = say("Edits added up, means over the sets; intervals after {shown}", shown=plural(shown[-1], "edit"))
    return make_table(caption, columns, rows, len(rows), "stress.composition[]")


def chain_table(chains: Sequence[CompositionChain], limit: int) -> Table:
    """Every set of classes under every method."""
    columns = [Column(say("Method"), "name"), Column(say("Classes, in order"), "wrap"), Column(say("Chosen"), "text")]
    columns += [Column(say("Others before")), Column(say("Others after")), Column(say("95 % interval, %"))]
    columns += [Column(say("Same predictions, reversed")), Column(say("Others reversed, points"))]
    rows: list[list[Value]] = [
        [
            label_method(chain.method),
            names(chain.class_names, len(chain.class_names)),
            say("most fragile") if chain.fragile else "drawn",
            percent(chain.steps[0].others),
            percent(chain.steps[-1].others),
            percent_interval(chain.steps[-1].low, chain.steps[-1].high),
            percent(chain.orders[-1].agreement),
            points(chain.orders[-1].others_gap),
        ]
        for chain in chains
    ]
    return make_table(say("Every set of classes"), columns, rows, limit, "stress.chains[]")


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
    title = say("Accuracy of the classes that are not edited")
    chart = draw_bundle(title, Axis(tuple(range(n)), say("edits, one class each")), lines, width=420)
    left = len(compositions) - len(lines)
    note = say("{left}: in the table.", left=plural(left, "further method")) if left > 0 else ""
    return Figure(
        "figure-drift", say("{title} as edits add up", title=title), (chart,), "stress.composition[]", note=note
    )
