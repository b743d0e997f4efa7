"""Section on recovery: the smallest change of the activation that restores an edited class."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.interventions.registry import SALVE, UNEDITED, YARDSTICK, is_null, label_method
from salve_audit.report.language import say
from salve_audit.report.numbers import count, percent, percent_interval
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.results import Recovery

BUDGET = 0.1  # of the budgets, the one that the sentence names
_NONE = "no class that the method brings to the target"
_NEVER = "at most half of the images can be brought back"
_FEW = "too few images"


def recovery_sentences(recoveries: Sequence[Recovery], target: float) -> list[str]:
    """Sentences on what comes back, compared with unedited heads, and on the methods that hide least."""
    by_method = {recovery.method: recovery for recovery in recoveries}
    salve, plain = by_method.get(SALVE.key), by_method[UNEDITED.key]
    if salve is None or not salve.n:
        return [say("SALVE brought no class to the target, so there is nothing to bring back.")]
    said = [
        say(
            "With each class at {x} % accuracy, a change of at most {x2} % of the activation's norm that leaves "
            "the feature's code as it is brings back {salve} of the images that SALVE edits away{by_method}. "
            "Without an edit, such a change takes {plain} of other classes' images to the class.",
            x=f"{100 * target:g}",
            x2=f"{100 * BUDGET:g}",
            salve=_share(salve),
            by_method=_trivial(by_method),
            plain=_share(plain),
        )
    ]
    said.append(_verdict(salve, plain))
    ranked = [
        recovery
        for recovery in recoveries
        if recovery.n and recovery.median is not None and recovery is not plain and not is_null(recovery.method)
    ]
    ranked.sort(key=lambda recovery: recovery.median or 0.0)
    if len(ranked) > 1:
        first, last = ranked[0], ranked[-1]
        said.append(
            say(
                "Easiest to undo is {method} (median size {x}), hardest {method2} ({x2}).",
                method=label_method(first.method),
                x=percent(first.median or 0.0),
                method2=label_method(last.method),
                x2=percent(last.median or 0.0),
            )
        )
    return [*said, *_beside_nulls(salve, by_method)]


def _trivial(by_method: dict[str, Recovery]) -> str:
    row = by_method.get(YARDSTICK.key)
    return say(" ({row} under row scaling)", row=_share(row)) if row is not None and row.n else ""


def _share(recovery: Recovery) -> str:
    return next((percent(each.share) for each in recovery.shares if each.budget == BUDGET), say("none"))


def _verdict(salve: Recovery, plain: Recovery) -> str:
    if salve.median is None:
        return say("Most images that SALVE edits away cannot be brought back by any such change.")
    if plain.median is None:
        return say("The median size under SALVE is {median}.", median=percent(salve.median))
    sizes = say("median size {median} against {median2}", median=percent(salve.median), median2=percent(plain.median))
    if salve.high is not None and plain.low is not None and salve.high < plain.low:
        return say("The edit hides the class, it does not remove it: {sizes}.", sizes=sizes)
    if salve.low is not None and plain.high is not None and salve.low > plain.high:
        return say(
            "The edit takes images farther from their class than other classes' images are: {sizes}.", sizes=sizes
        )
    return say("Edited images are about as far from their class as other classes' images: {sizes}.", sizes=sizes)


def _beside_nulls(salve: Recovery, by_method: dict[str, Recovery]) -> list[str]:
    controls = [
        control
        for control in by_method.values()
        if is_null(control.method) and control.n and control.median is not None
    ]
    if not controls or salve.median is None or salve.low is None:
        return []
    beaten = all(control.high is not None and salve.low > control.high for control in controls)
    sizes = say(" and ").join(
        f"{label_method(control.method)} {percent(control.median or 0.0)}" for control in controls
    )
    if beaten:
        return [say("SALVE is harder to undo than its null controls ({sizes}).", sizes=sizes)]
    return [say("SALVE is not harder to undo than a null control beyond chance ({sizes}).", sizes=sizes)]


def recovery_table(recoveries: Sequence[Recovery]) -> Table:
    """One line per method, the yardstick first."""
    budgets = next((recovery.shares for recovery in recoveries if recovery.shares), ())
    columns = [Column(say("Method"), "name"), Column(say("Classes")), Column(say("Images")), Column(say("Median size"))]
    columns += [
        Column(say("95 % interval, %")),
        *(Column(say("Back within {x} %", x=f"{100 * recovery.budget:g}")) for recovery in budgets),
    ]
    columns += [Column(say("Never"))]
    rows = [_row(recovery, len(budgets)) for recovery in recoveries]
    caption = say("Smallest change of the activation that restores the class, over the activation's norm")
    return make_table(caption, columns, rows, len(rows), "stress.recovery[]")


def _row(recovery: Recovery, n_budgets: int) -> list[Value]:
    head: list[Value] = [label_method(recovery.method), count(recovery.n_classes), count(recovery.n)]
    if not recovery.n:
        return [*head, *[Missing(_NONE)] * (3 + n_budgets)]
    interval: Value = Missing(_FEW if recovery.median is not None else _NEVER)
    if recovery.low is not None:
        interval = (
            say("{x} or more", x=f"{100 * recovery.low:.1f}")
            if recovery.high is None
            else percent_interval(recovery.low, recovery.high)
        )
    return [
        *head,
        Missing(_NEVER) if recovery.median is None else percent(recovery.median),
        interval,
        *(percent(each.share) for each in recovery.shares),
        count(recovery.n_never),
    ]


def recovery_classes_table(recoveries: Sequence[Recovery], limit: int) -> Table:
    """Median size of every class under every method."""
    order = list(dict.fromkeys(each.class_name for recovery in recoveries for each in recovery.classes))
    columns = [Column(say("Class"), "name"), *(Column(label_method(recovery.method)) for recovery in recoveries)]
    by = {(recovery.method, each.class_name): each for recovery in recoveries for each in recovery.classes}
    rows: list[list[Value]] = []
    for name in order:
        row: list[Value] = [name]
        for recovery in recoveries:
            each = by.get((recovery.method, name))
            row.append(
                Missing("not brought to the target")
                if each is None
                else Missing(_NEVER if each.n else say("nothing was edited away"))
                if each.median is None
                else percent(each.median)
            )
        rows.append(row)
    return make_table(say("Median size by class"), columns, rows, limit, "stress.recovery[].classes")
