"""What the images give away without the model, beside what the network uses of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from salve_audit.report.language import plural, say
from salve_audit.report.numbers import count, percent
from salve_audit.report.tables import Column, Missing, Noted, Table, Value, make_table
from salve_audit.report.view.page import Medium, Section
from salve_audit.results import AuditResult, ClassReliance, DataCheck, DataCue, FactorEffect
from salve_audit.results.reviewable import OBJECT, is_beyond_control

IN_DATA_AND_USED, IN_DATA_ONLY, USED_ONLY = "in the data and used", "in the data, not used", "used"
UNKNOWN = "in the data; use not measured"
NO_FACTOR = "no global factor acts on it"
NOT_MEASURED = "image reliance of this class was not measured"
NOT_IN_DATA = "no measured property of the images tells this class from the rest"


PRINTED_PAIRS = 10  # near-duplicates on paper; all are in audit.json


@dataclass(frozen=True)
class DataUse:
    """One property or factor of one class: what the data show of it, what the network uses, both or one."""

    class_name: str
    cue: DataCue | None
    factor: FactorEffect | None
    state: str


def list_uses(result: AuditResult) -> tuple[DataUse, ...]:
    """What is in the data and used first, then what is only used, then what is only in the data."""
    check = result.data_check or DataCheck()
    uses: list[DataUse] = []
    for info in result.classes:
        cues: dict[str, DataCue] = {}  # the clearest of each kind; of those that no factor acts on each
        for cue in check.cues:
            if cue.class_name == info.name:
                cues.setdefault(cue.kind or cue.property, cue)
        used = {factor.kind or factor.name: factor for factor in _used(info)}
        uses += [DataUse(info.name, cue, used.get(kind), _state(info, cue, kind in used)) for kind, cue in cues.items()]
        uses += [DataUse(info.name, None, factor, USED_ONLY) for kind, factor in used.items() if kind not in cues]
    order = (IN_DATA_AND_USED, USED_ONLY, UNKNOWN, IN_DATA_ONLY)
    return tuple(sorted(uses, key=lambda use: (order.index(use.state), -_size(use), use.class_name)))


def _used(info: ClassReliance) -> Iterator[FactorEffect]:
    """The strongest factor of each kind that does something to the class beyond its control."""
    if info.image_reliance is None:
        return
    strongest: dict[str, FactorEffect] = {}
    for factor in info.image_reliance.factors:
        removed = factor.low > 0 and is_beyond_control(factor)
        if removed or (factor.inserted_excess_low or 0.0) > 0:
            kind = factor.kind or factor.name
            if kind != OBJECT and (kind not in strongest or factor.strength > strongest[kind].strength):
                strongest[kind] = factor
    yield from strongest.values()


def _state(info: ClassReliance, cue: DataCue, is_used: bool) -> str:
    reliance = info.image_reliance
    measured = reliance is not None and any((factor.kind or factor.name) == cue.kind for factor in reliance.factors)
    return IN_DATA_AND_USED if is_used else IN_DATA_ONLY if measured else UNKNOWN


def _size(use: DataUse) -> float:
    return use.factor.strength if use.factor is not None else use.cue.low if use.cue is not None else 0.0


def build_data_check(result: AuditResult, medium: Medium) -> Section | None:
    """Properties beside factors, and duplicates; None where an earlier version wrote the audit."""
    check = result.data_check
    if check is None:
        return None
    uses = () if check.why_absent else list_uses(result)
    parts = {
        "why_absent": say(check.why_absent) if check.why_absent else "",
        "said": _say_properties(check, uses),
        "uses": _table(uses, result, medium.detail_rows) if uses else None,
        "duplicates": _say_duplicates(check),
        "pairs": _pairs(check, min(PRINTED_PAIRS, medium.detail_rows) if medium.name == "pdf" else medium.table_rows)
        if check.pairs
        else None,
    }
    return Section("data", say("The data without the model"), "data_check.html.j2", parts)


def _say_properties(check: DataCheck, uses: tuple[DataUse, ...]) -> str:
    both = sum(use.state == IN_DATA_AND_USED for use in uses)
    told = len({cue.class_name for cue in check.cues})
    return say(
        "On {n} of {classes}, {properties} properties of the images alone were compared with the labels: {told} can be "
        "told from the rest by one of them, and the network uses {both} of these findings.",
        n=plural(check.n_images, "image"),
        classes=plural(check.n_classes, "class", "classes"),
        properties=count(len(check.properties)),
        told=plural(told, "class", "classes"),
        both=count(both),
    )


def _table(uses: tuple[DataUse, ...], result: AuditResult, limit: int) -> Table:
    measured = {info.name for info in result.classes if info.image_reliance is not None}
    columns = [
        Column(say("Class"), "name"),
        Column(say("Property"), "text"),
        Column(say("Tells the class apart (AUROC)")),
        Column(say("Interval")),
        Column(say("Lost without it, %")),
        Column(say("Inserted elsewhere, %")),
        Column("", "text"),
    ]
    rows = [_row(use, use.class_name in measured) for use in uses]
    if all(use.factor is None for use in uses):  # the network does nothing with any of them, or it is not known
        columns, rows = [*columns[:4], columns[-1]], [[*row[:4], row[-1]] for row in rows]
    caption = say("Properties of the images, and what the network does without and with them")
    return make_table(caption, columns, rows, limit, "data_check.cues")


def _row(use: DataUse, is_measured: bool) -> list[Value]:
    cue, factor = use.cue, use.factor
    no_factor = Missing(say(NOT_MEASURED if not is_measured else NO_FACTOR))
    what = "" if factor is None else say(factor.name)
    if cue is not None:
        direction = say("higher") if cue.is_higher else say("lower")
        what = f"{say(cue.property)} ({direction})"
    removed: Value = no_factor if use.state == UNKNOWN else "–"
    inserted: Value = no_factor if use.state == UNKNOWN else "–"
    if factor is not None:
        removed = percent(factor.removed) if factor.is_removed else "–"
        inserted = "–" if factor.inserted is None else percent(factor.inserted)
        if cue is not None and say(factor.name) != say(cue.property):
            removed = Noted(removed, say("of the factor {name}", name=say(factor.name)))
    return [
        use.class_name,
        what,
        Missing(say(NOT_IN_DATA)) if cue is None else f"{cue.auroc:.2f}",
        "–" if cue is None else f"{cue.low:.2f}–{cue.high:.2f}",
        removed,
        inserted,
        say(use.state),
    ]


def _say_duplicates(check: DataCheck) -> str:
    if not check.n_compared:
        return ""
    if not check.pairs:
        return say("No near-duplicates were found of {n}.", n=plural(check.n_compared, "audit image"))
    said = say(
        "Of {n}, {across} have a near-duplicate in the fit split and {within} among themselves.",
        n=plural(check.n_compared, "audit image"),
        across=count(check.n_audit_in_fit),
        within=count(check.n_within),
    )
    if check.n_conflicts:
        said += " " + say("{n} with different labels.", n=plural(check.n_conflicts, "pair"))
    return said


def _pairs(check: DataCheck, limit: int) -> Table:
    columns = [
        Column(say("Audit image"), "name"),
        Column(say("Class"), "wrap"),
        Column(say("Near-duplicate"), "wrap"),
        Column(say("Class"), "wrap"),
        Column("", "text"),
    ]
    rows: list[list[Value]] = [
        [
            pair.path,
            pair.class_name,
            pair.other_path,
            pair.other_class,
            ", ".join(
                [say("in the fit split") if pair.across else say("in the audit split")]
                + ([say("the same file")] if pair.exact else [])
            ),
        ]
        for pair in check.pairs
    ]
    return make_table(say("Images that are there twice"), columns, rows, limit, "data_check.pairs")
