"""The one Verdict object behind stdout, exit code, audit.json and the report."""

from __future__ import annotations

from collections.abc import Iterable

from salve_audit.results import ClassReliance, Rule, Verdict

FLIP_RULE = "alpha_hat flip median at least"


def judge_flips(classes: Iterable[ClassReliance], fail_under: float | None) -> Verdict:
    """Which classes are fragile: the whole 95 % interval of the alpha_hat flip median lies below the limit.

    The interval is over samples and, where several were trained, over seeds of the autoencoder.
    Classes whose interval contains the limit are undecided and do not fail; thin classes are not judged. Without a
    limit, or when no class could be judged, `passed` is None.
    """
    if fail_under is None:
        return Verdict(passed=None, policy=None, rules=())
    rules = tuple(_judge(one, fail_under) for one in classes)
    judged = [rule for rule in rules if rule.outcome != "thin"]
    passed = all(rule.outcome != "fail" for rule in judged) if judged else None
    return Verdict(passed=passed, policy=f"fail under {fail_under:g}", rules=rules)


def _judge(one: ClassReliance, limit: float) -> Rule:
    low, high = one.judged_interval
    if one.thin:
        outcome = "thin"
    elif high is not None and high < limit:
        outcome = "fail"
    elif low is not None and low < limit:
        outcome = "undecided"
    else:  # a bound that is not reached lies beyond every strength
        outcome = "pass"
    return Rule(FLIP_RULE, one.name, one.alpha_hat.flip.median, low, high, limit, outcome)


def fragile_classes(verdict: Verdict) -> tuple[str, ...]:
    """Names of the classes that fail, in output order."""
    return tuple(rule.class_name for rule in verdict.rules if rule.outcome == "fail")
