"""Does an edit remove the class or hide it? How small a change of the activation brings it back."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.report.numbers import count, percent, percent_interval
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.report.view.ranking import is_null, label
from salve_audit.results import Recovery

UNEDITED = "unedited"
BUDGET = 0.1  # of the budgets, the one that the sentence names
_NONE = "no class that the method brings to the target"
_NEVER = "at most half of the pictures can be brought back"
_FEW = "too few pictures"


def recovery_label(method: str) -> str:
    """A method's name, the yardstick's included."""
    return "no edit: other classes' pictures" if method == UNEDITED else label(method)


def recovery_sentences(found: Sequence[Recovery], target: float) -> list[str]:
    """What comes back, against what would come without an edit, and which methods hide least."""
    by_method = {one.method: one for one in found}
    salve, plain = by_method.get("salve"), by_method[UNEDITED]
    if salve is None or not salve.n:
        return ["SALVE brought no class to the target, so there is nothing to bring back."]
    said = [
        f"With each class at {100 * target:g} % accuracy, a change of at most {100 * BUDGET:g} % of the activation's "
        f"norm that leaves the feature's code as it is brings back {_share(salve)} of the pictures that SALVE edits "
        f"away{_trivial(by_method)}. Without an edit, such a change takes {_share(plain)} of other classes' pictures "
        "to the class."
    ]
    said.append(_verdict(salve, plain))
    ranked = [one for one in found if one.n and one.median is not None and one is not plain and not is_null(one.method)]
    ranked.sort(key=lambda one: one.median or 0.0)
    if len(ranked) > 1:
        first, last = ranked[0], ranked[-1]
        said.append(
            f"Easiest to undo is {label(first.method)} (median size {percent(first.median or 0.0)}), hardest "
            f"{label(last.method)} ({percent(last.median or 0.0)})."
        )
    return [*said, *_beside_nulls(salve, by_method)]


def _trivial(by_method: dict[str, Recovery]) -> str:
    row = by_method.get("row-scaling")
    return f" ({_share(row)} under row scaling)" if row is not None and row.n else ""


def _share(one: Recovery) -> str:
    return next((percent(each.share) for each in one.shares if each.budget == BUDGET), "none")


def _verdict(salve: Recovery, plain: Recovery) -> str:
    if salve.median is None:
        return "Most pictures that SALVE edits away cannot be brought back by any such change."
    if plain.median is None:
        return f"The median size under SALVE is {percent(salve.median)}."
    sizes = f"median size {percent(salve.median)} against {percent(plain.median)}"
    if salve.high is not None and plain.low is not None and salve.high < plain.low:
        return f"The edit hides the class, it does not remove it: {sizes}."
    if salve.low is not None and plain.high is not None and salve.low > plain.high:
        return f"The edit takes pictures farther from their class than other classes' pictures are: {sizes}."
    return f"Edited pictures are about as far from their class as other classes' pictures: {sizes}."


def _beside_nulls(salve: Recovery, by_method: dict[str, Recovery]) -> list[str]:
    nulls = [one for one in by_method.values() if is_null(one.method) and one.n and one.median is not None]
    if not nulls or salve.median is None or salve.low is None:
        return []
    beaten = all(one.high is not None and salve.low > one.high for one in nulls)
    sizes = " and ".join(f"{label(one.method)} {percent(one.median or 0.0)}" for one in nulls)
    if beaten:
        return [f"SALVE is harder to undo than its null controls ({sizes})."]
    return [f"SALVE is not harder to undo than a null control beyond chance ({sizes})."]


def recovery_table(found: Sequence[Recovery]) -> Table:
    """One line per method, the yardstick first."""
    budgets = next((one.shares for one in found if one.shares), ())
    columns = [Column("Method", "name"), Column("Classes"), Column("Pictures"), Column("Median size")]
    columns += [Column("95 % interval, %"), *(Column(f"Back within {100 * one.budget:g} %") for one in budgets)]
    columns += [Column("Never")]
    rows = [_row(one, len(budgets)) for one in found]
    caption = "Smallest change of the activation that restores the class, over the activation's norm"
    return make_table(caption, columns, rows, len(rows), "stress.recovery[]")


def _row(one: Recovery, n_budgets: int) -> list[Value]:
    head: list[Value] = [recovery_label(one.method), count(one.n_classes), count(one.n)]
    if not one.n:
        return [*head, *[Missing(_NONE)] * (3 + n_budgets)]
    interval: Value = Missing(_FEW if one.median is not None else _NEVER)
    if one.low is not None:
        interval = f"{100 * one.low:.1f} or more" if one.high is None else percent_interval(one.low, one.high)
    return [
        *head,
        Missing(_NEVER) if one.median is None else percent(one.median),
        interval,
        *(percent(each.share) for each in one.shares),
        count(one.n_never),
    ]


def recovery_classes_table(found: Sequence[Recovery], limit: int) -> Table:
    """Median size of every class under every method."""
    order = list(dict.fromkeys(each.class_name for one in found for each in one.classes))
    columns = [Column("Class", "name"), *(Column(recovery_label(one.method)) for one in found)]
    by = {(one.method, each.class_name): each for one in found for each in one.classes}
    rows: list[list[Value]] = []
    for name in order:
        row: list[Value] = [name]
        for one in found:
            each = by.get((one.method, name))
            row.append(
                Missing("not brought to the target")
                if each is None
                else Missing(_NEVER if each.n else "nothing was edited away")
                if each.median is None
                else percent(each.median)
            )
        rows.append(row)
    return make_table("Median size by class", columns, rows, limit, "stress.recovery[].classes")
