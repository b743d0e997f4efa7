"""The verdict in words, from the result's own verdict alone: distinct classes, every broken rule, worst first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from salve_audit.report.language import plural, say
from salve_audit.report.numbers import count, names, percent, percent_interval, strength, strength_interval
from salve_audit.report.view.page import Banner, Violation
from salve_audit.results import Rule, Verdict

LISTED = 5  # violations on the first page
IN_WORDS = {
    "alpha_hat flip median at least": "α̂ flip median",
    "redundancy in the image at least": "redundancy in the image",
    "image reliance at most": "image reliance",
}
_COUNTS = ("redundancy",)
_SHARES = ("reliance", "accuracy", "share", "shortcut", "factor")  # in the name of a rule whose values are shares
_OPEN = (
    ("undecided", "Undecided{under}, which does not fail: {names}."),
    ("thin", "Not judged{under} (not measured, or too few images): {names}."),
)


def build_banner(verdict: Verdict) -> Banner | None:
    """The verdict under the policy; None where no policy was given."""
    if verdict.policy is None and not verdict.problems:
        return None
    policy = say("Policy: {policy}.", policy=_policy_words(verdict.policy or ""))
    details = (*_open_rules(verdict.rules), *_exempt(verdict.rules), *verdict.notes[:LISTED])
    if verdict.passed is None or verdict.problems:
        problems = [_sentence(problem) for problem in verdict.problems]
        reasons = " ".join(problems[:LISTED]) or say("No class could be judged under one of its limits.")
        return Banner("none", say("Not judged"), f"{policy} {reasons}", (), "", details)
    if not verdict.passed:
        return _failure(verdict, policy, details)
    judged = distinct(rule.class_name for rule in verdict.rules if rule.outcome in ("pass", "undecided"))
    text = "None of {n} breaks it, 95 % intervals considered."
    held = say(text, n=plural(len([each for each in judged if each]), "judged class", "judged classes"))
    return Banner("pass", say("Pass"), f"{policy} {held}", (), "", details)


def _policy_words(policy: str) -> str:
    """The rules in a line, measures called as everywhere else."""
    return policy.rstrip(".").replace("alpha_hat", "α̂")


def _failure(verdict: Verdict, policy: str, details: tuple[str, ...]) -> Banner:
    failed = worst_first([rule for rule in verdict.rules if effect_of(rule) == "fail"])
    n = len([each for each in distinct(rule.class_name for rule in failed) if each])
    text = say("{n} class breaks it:" if n == 1 else "{n} classes break it:", n=count(n))
    more = ""
    if len(failed) > LISTED:
        more = say("and {n} more violations; see the classes", n=count(len(failed) - LISTED))
    violations = tuple(Violation(rule.class_name, describe(rule)) for rule in failed[:LISTED])
    return Banner("fail", say("Fail"), f"{policy} {text}", violations, more, details)


def effect_of(rule: Rule) -> str:
    """What the outcome of a rule does: "fail" violates the policy, "exempt" is accepted for a time."""
    return rule.effect


def _open_rules(rules: Sequence[Rule]) -> tuple[str, ...]:
    """Classes that are undecided or were not judged, by limit where there are several."""
    rules = [rule for rule in rules if not rule.is_skipped_factor]
    kinds = distinct(rule.rule for rule in rules)
    failed = {rule.class_name for rule in rules if effect_of(rule) == "fail"}
    said = []
    for outcome, text in _OPEN:
        by_kind = {kind: [r.class_name for r in rules if (r.rule, r.outcome) == (kind, outcome)] for kind in kinds}
        if len({tuple(who) for who in by_kind.values()}) == 1:
            by_kind = {"": next(iter(by_kind.values()))}
        for kind, who in by_kind.items():
            listed = [class_name for class_name in distinct(who) if class_name and (class_name not in failed or kind)]
            if listed:
                under = say(" for {rule}", rule=rule_words(kind)) if kind and len(kinds) > 1 else ""
                said.append(say(text, under=under, names=names(listed)))
    return tuple(said)


def _exempt(rules: Sequence[Rule]) -> tuple[str, ...]:
    exempt = [rule for rule in rules if effect_of(rule) == "exempt"][:LISTED]
    return tuple(
        say("Exempt: {class_name}, {what}. {why}", class_name=names([rule.class_name]), what=describe(rule),
            why=_sentence(rule.why))
        for rule in exempt
    )  # fmt: skip


def distinct(class_names: Iterable[str]) -> list[str]:
    """Each name once, in order."""
    return list(dict.fromkeys(class_names))


def worst_first(rules: Sequence[Rule]) -> list[Rule]:
    """Violations by how far the nearer end of the interval lies beyond the limit, relative to the limit."""

    def distance(rule: Rule) -> float:
        ends = [end for end in (rule.low, rule.high, rule.value) if end is not None]
        nearest = min((abs(end - rule.limit) for end in ends), default=0.0)
        return nearest / (abs(rule.limit) or 1.0)

    return sorted(rules, key=lambda rule: -distance(rule))


def rule_words(rule: str) -> str:
    """The name of a rule's measure in words."""
    return say(IN_WORDS.get(rule, rule))


def describe(rule: Rule) -> str:
    """Measure, value, interval and limit of a broken rule."""
    return say(
        "{measure} {value}{interval}, limit {limit}",
        measure=rule_words(rule.rule),
        value=say("not measured") if rule.value is None else _show(rule.value, rule.rule),
        interval=_interval(rule),
        limit=_show(rule.limit, rule.rule),
    )


def _show(value: float, rule: str) -> str:
    if any(word in rule for word in _COUNTS):
        return f"{value:g}"
    return percent(value, 100) if any(word in rule for word in _SHARES) else strength(value)


def _interval(rule: Rule) -> str:
    """The interval in brackets; "" where there is none, or it is a single count."""
    ends = (rule.low, rule.high)
    if any(word in rule.rule for word in _COUNTS):
        if None in ends or ends[0] == ends[1]:
            return ""
        return " (" + say("{low} to {high}", low=_show(ends[0] or 0.0, rule.rule), high=f"{ends[1]:g}") + ")"
    if any(word in rule.rule for word in _SHARES):
        return f" ({percent_interval(ends[0], ends[1], 100)} %)" if ends[0] is not None and ends[1] is not None else ""
    text = strength_interval(*ends)
    return f" ({text})" if text else ""


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') or not text else '.'}"
