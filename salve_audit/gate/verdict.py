"""The one Verdict object behind stdout, exit code, audit.json and the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from salve_audit.limits import Limits
from salve_audit.results import ClassReliance, Rule, Verdict

FLIP_RULE = "alpha_hat flip median at least"
REDUNDANCY_RULE = "redundancy at depth at least"
RELIANCE_RULE = "reliance at depth at most"


def judge_flips(classes: Iterable[ClassReliance], fail_under: float | None) -> Verdict:
    """`judge` with a limit on the alpha_hat flip median alone."""
    return judge(classes, Limits(fail_under=fail_under))


def judge(classes: Iterable[ClassReliance], limits: Limits) -> Verdict:
    """Which classes break a limit: the whole 95 % interval of the statistic lies beyond it.

    The interval of the flip median is over samples and, where several were trained, over seeds of the autoencoder;
    those at depth are over pictures. Classes whose interval contains the limit are undecided and do not fail; thin
    classes, and classes of which a statistic was not measured, are not judged. Without a limit, or when some limit
    could judge no class, `passed` is None: nothing that was not measured passes.
    """
    if limits.policy is None:
        return Verdict(passed=None, policy=None, rules=())
    classes = tuple(classes)
    asked: list[tuple[Rule, ...]] = []
    if limits.fail_under is not None:
        asked.append(tuple(_judge_flip(one, limits.fail_under) for one in classes))
    if limits.fail_under_redundancy is not None:
        asked.append(tuple(_judge_redundancy(one, limits.fail_under_redundancy) for one in classes))
    if limits.fail_over_reliance is not None:
        asked.append(tuple(_judge_reliance(one, limits.fail_over_reliance) for one in classes))
    rules = tuple(rule for own in asked for rule in own)
    measured = all(any(rule.outcome != "thin" for rule in own) for own in asked)
    passed = all(rule.outcome != "fail" for rule in rules) if measured else None
    return Verdict(passed=passed, policy=limits.policy, rules=rules)


def _judge_flip(one: ClassReliance, limit: float) -> Rule:
    low, high = one.judged_interval
    outcome = "thin" if one.thin else _at_least(low, high, limit)
    return Rule(FLIP_RULE, one.name, one.alpha_hat.flip.median, low, high, limit, outcome)


def _judge_redundancy(one: ClassReliance, limit: int) -> Rule:
    found = one.depth
    if found is None:
        return Rule(REDUNDANCY_RULE, one.name, None, None, None, limit, "thin")
    value, low, high = map(_number, (found.redundancy, found.redundancy_low, found.redundancy_high))
    beyond = limit > found.redundancy_limit  # then "beyond the limit searched" may still be too little
    outcome = "thin" if found.thin or (beyond and high is None) else _at_least(low, high, limit)
    return Rule(REDUNDANCY_RULE, one.name, value, low, high, limit, outcome)


def _judge_reliance(one: ClassReliance, limit: float) -> Rule:
    found = one.depth
    if found is None:
        return Rule(RELIANCE_RULE, one.name, None, None, None, limit, "thin")
    outcome = "fail" if found.low > limit else "undecided" if found.high > limit else "pass"
    if outcome == "fail" and found.is_by_chance:  # any place as large turns as many
        outcome = "undecided"
    outcome = "thin" if found.thin else outcome
    return Rule(RELIANCE_RULE, one.name, found.reliance, found.low, found.high, limit, outcome)


def _at_least(low: float | None, high: float | None, limit: float) -> str:
    if high is not None and high < limit:
        return "fail"
    if low is not None and low < limit:
        return "undecided"
    return "pass"  # a bound that is not reached lies beyond every strength


def _number(value: int | None) -> float | None:
    return None if value is None else float(value)


def fragile_classes(verdict: Verdict) -> tuple[str, ...]:
    """Names of the classes that fail, in output order."""
    failed: Sequence[str] = [rule.class_name for rule in verdict.rules if rule.outcome == "fail"]
    return tuple(dict.fromkeys(failed))
