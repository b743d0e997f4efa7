"""The result of an audit on a terminal: what was measured of each class, and the limits of the policy below it.

The audit and the gate print this one table. A column that a rule of the policy judges is called what the rule calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from salve_audit.cli.printing import MAX_ROWS, aligned
from salve_audit.gate.rules import ACCURACY, ALPHA_HAT, REDUNDANCY, RELIANCE, RuleKind
from salve_audit.results import AuditResult, ClassReliance, ImageReliance, Verdict
from salve_audit.results.plain_text import plain
from salve_audit.results.view import rank_classes

MAX_NAME = 32
FLIP, IMAGE, IN_IMAGE = "alpha_hat flip median", "image reliance", "redundancy in the image"
CORRECT = "accuracy"
JUDGED: Mapping[str, RuleKind] = {CORRECT: ACCURACY, IMAGE: RELIANCE, IN_IMAGE: REDUNDANCY, FLIP: ALPHA_HAT}


def class_table(result: AuditResult, verdict: Verdict | None = None) -> str:
    """The classes, those that depend most on one thing in the image first, with 95 % intervals in brackets.

    Args:
        result: of the audit.
        verdict: whose outcomes and limits are shown; None: the result's own.
    """
    verdict = verdict or result.verdict
    classes = rank_classes(result.classes)
    in_image = any(class_info.image_reliance is not None for class_info in classes)
    columns = {name: cell for name, cell in _columns(verdict).items() if in_image or name not in _IN_IMAGE}
    rows = [[cell(class_info) for cell in columns.values()] for class_info in classes[:MAX_ROWS]]
    limits = {name: _limit(verdict, kind) for name, kind in JUDGED.items()}
    if any(limits.values()):
        rows.append(["limit", *(limits.get(name, "") for name in list(columns)[1:])])
    lines = aligned([list(columns), *rows])
    if len(classes) > MAX_ROWS:
        lines.append(f"... {len(classes) - MAX_ROWS} more classes, all in audit.json")
    data = result.data
    if data.sampled_from is not None:
        sample = f"a stratified sample of {data.n_images:,} of {data.sampled_from:,} images"
        lines.append(f"{sample}: intervals are those of the sample")
    if not in_image:
        why = "" if result.evidence is None else result.evidence.why_absent
        lines.append("image reliance was not measured" + (f": {plain(why)}" if why else ""))
    return "\n".join(lines)


def _columns(verdict: Verdict) -> dict[str, Callable[[ClassReliance], str]]:
    """The columns by their headings, each as the text of a class's cell."""
    outcomes = verdict.outcomes
    return {
        "class": lambda each: _name(each.name),
        "n": lambda each: str(each.n),
        CORRECT: lambda each: f"{100 * each.accuracy:.1f} %",
        IMAGE: lambda each: _in_image(each, _reliance),
        "kind": lambda each: _in_image(each, lambda record: record.kind or "none"),
        IN_IMAGE: lambda each: _in_image(each, _redundancy),
        FLIP: lambda each: _number(each.alpha_hat.flip.median) + _interval(*each.judged_interval),
        "flags": lambda each: _flags(each, outcomes.get(each.name, "")),
    }


_IN_IMAGE = (IMAGE, "kind", IN_IMAGE)


def _name(name: str) -> str:
    shown = plain(name)
    return shown if len(shown) <= MAX_NAME else shown[: MAX_NAME - 3] + "..."


def _in_image(class_info: ClassReliance, cell: Callable[[ImageReliance], str]) -> str:
    record = class_info.image_reliance
    return "-" if record is None else cell(record)


def _reliance(record: ImageReliance) -> str:
    return f"{record.reliance:.2f} [{record.low:.2f}, {record.high:.2f}]"


def _redundancy(record: ImageReliance) -> str:
    beyond = f"> {record.redundancy_limit}"
    low, value, high = (
        beyond if each is None else str(each)
        for each in (record.redundancy_low, record.redundancy, record.redundancy_high)
    )
    return value if low == value == high else f"{value} [{low}, {high}]"


def _flags(class_info: ClassReliance, outcome: str) -> str:
    record = class_info.image_reliance
    by_chance = record is not None and record.reliance > 0 and record.is_by_chance
    judged = [outcome] if outcome in ("fail", "undecided") else []
    return ", ".join([*judged, *(["as by chance"] if by_chance else []), *class_info.flags]) or "-"


def _number(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.3g}"


def _interval(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    return f" [{'?' if low is None else f'{low:.3g}'}, {'inf' if high is None else f'{high:.3g}'}]"


def _limit(verdict: Verdict, kind: RuleKind) -> str:
    """The limit of a rule: of classes, the lowest and the highest where overrides have others, and of all images."""
    rules = [rule for rule in verdict.rules if rule.rule == kind.words]
    of_classes = sorted({rule.limit for rule in rules if rule.class_name})
    limits = []
    if of_classes:
        limits.append(" to ".join(_in_unit(limit, kind) for limit in dict.fromkeys(of_classes[:1] + of_classes[-1:])))
    limits += [f"{_in_unit(rule.limit, kind)} overall" for rule in rules if not rule.class_name]
    return f"at {'least' if kind.at_least else 'most'} {', '.join(limits)}" if limits else ""


def _in_unit(limit: float, kind: RuleKind) -> str:
    return f"{100 * limit:g} %" if kind is ACCURACY else f"{limit:g}"
