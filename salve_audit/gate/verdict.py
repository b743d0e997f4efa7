"""The one Verdict object behind stdout, exit code, audit.json and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from salve_audit.gate.limits import FLIP_RULE, REDUNDANCY_RULE, RELIANCE_RULE, LimitRule, Limits
from salve_audit.results import ClassReliance, Rule, Verdict


def judge(classes: Iterable[ClassReliance], limits: Limits) -> Verdict:
    """The verdict: a class breaks a limit where the whole 95 % interval of the statistic lies beyond it.

    The interval of the flip median is over samples and, where several were trained, over seeds of the autoencoder;
    those in the image are over images. Classes whose interval contains the limit are undecided and do not fail; thin
    classes, and classes of which a statistic was not measured, are not judged. Without a limit, or when some limit
    could judge no class, `passed` is None: nothing that was not measured passes.
    """
    if limits.policy is None:
        return Verdict(passed=None, policy=None, rules=())
    classes = tuple(classes)
    rules_by_limit = [
        tuple(_JUDGES[rule](class_info, limit) for class_info in classes) for rule, limit in limits.given.items()
    ]
    rules = tuple(rule for own in rules_by_limit for rule in own)
    measured = all(any(rule.outcome != "thin" for rule in own) for own in rules_by_limit)
    passed = all(rule.outcome != "fail" for rule in rules) if measured else None
    return Verdict(passed=passed, policy=limits.policy, rules=rules)


def _judge_flip(class_info: ClassReliance, limit: float) -> Rule:
    low, high = class_info.judged_interval
    outcome = "thin" if class_info.thin else _at_least(low, high, limit)
    return Rule(FLIP_RULE.name, class_info.name, class_info.alpha_hat.flip.median, low, high, limit, outcome)


def _judge_redundancy(class_info: ClassReliance, limit: float) -> Rule:
    reliance = class_info.image_reliance
    if reliance is None:
        return Rule(REDUNDANCY_RULE.name, class_info.name, None, None, None, limit, "thin")
    value, low, high = map(_number, (reliance.redundancy, reliance.redundancy_low, reliance.redundancy_high))
    beyond = limit > reliance.redundancy_limit  # then "beyond the limit searched" may still be too little
    outcome = "thin" if reliance.thin or (beyond and high is None) else _at_least(low, high, limit)
    return Rule(REDUNDANCY_RULE.name, class_info.name, value, low, high, limit, outcome)


def _judge_reliance(class_info: ClassReliance, limit: float) -> Rule:
    reliance = class_info.image_reliance
    if reliance is None:
        return Rule(RELIANCE_RULE.name, class_info.name, None, None, None, limit, "thin")
    outcome = "fail" if reliance.low > limit else "undecided" if reliance.high > limit else "pass"
    if outcome == "fail" and reliance.is_by_chance:  # any region as large flips as many
        outcome = "undecided"
    outcome = "thin" if reliance.thin else outcome
    return Rule(RELIANCE_RULE.name, class_info.name, reliance.reliance, reliance.low, reliance.high, limit, outcome)


def _at_least(low: float | None, high: float | None, limit: float) -> str:
    if high is not None and high < limit:
        return "fail"
    if low is not None and low < limit:
        return "undecided"
    return "pass"  # a bound that is not reached lies beyond every strength


def _number(value: int | None) -> float | None:
    return None if value is None else float(value)


_JUDGES: dict[LimitRule, Callable[[ClassReliance, float], Rule]] = {
    FLIP_RULE: _judge_flip,
    REDUNDANCY_RULE: _judge_redundancy,
    RELIANCE_RULE: _judge_reliance,
}
