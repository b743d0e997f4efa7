"""Undecided classes: which more images would decide, how many, and what a second look at them costs in confidence.

Whoever looks twice errs twice. A class that was examined a second time because the first look left it undecided is
judged by intervals whose confidence leaves half of what one look may: both looks together then err as seldom as one.
"""

from __future__ import annotations

import dataclasses
import math

from salve_audit.gate.estimates import Decision, allow_for
from salve_audit.gate.names import name_some
from salve_audit.gate.policy import Policy, Setting
from salve_audit.gate.rules import DROP, KINDS, SHORTCUT
from salve_audit.results import AuditResult, ClassReliance, Rule, Verdict

SPARE = 1.5  # times the images that would just decide, were the value to stay
HOPELESS = 2.0  # times the images that there are: where more are needed, none are spent
LOOKS = 2


def foresee_second_look(policy: Policy) -> Policy:
    """The policy as it has to judge the first of two looks."""
    return dataclasses.replace(policy, confidence=allow_for(policy.confidence, LOOKS))


def choose_images(verdict: Verdict, result: AuditResult) -> dict[str, int]:
    """Images by name of the undecided classes that more of them are likely to decide, the cheapest class first.

    Args:
        verdict: on the first look, by a policy that foresees the second.
        result: of the first look.
    """
    failed = {rule.class_name for rule in verdict.by_effect("fail")}
    needed: dict[str, int] = {}
    for rule in verdict.rules:
        if is_in_image(rule.key) and rule.outcome == "undecided" and rule.n_needed and rule.class_name not in failed:
            needed[rule.class_name] = max(rule.n_needed, needed.get(rule.class_name, 0))
    sizes = {}
    for class_info in result.classes:
        n = needed.get(class_info.name)
        if n is not None and count_left(class_info) and n <= HOPELESS * class_info.n:
            sizes[class_info.name] = min(class_info.n, math.ceil(SPARE * n))
    return dict(sorted(sizes.items(), key=lambda item: item[1]))


def is_in_image(key: str) -> bool:
    """True for rules whose values more images of a class make narrower."""
    kind, _, name = key.partition(".")
    if kind in (SHORTCUT.key, DROP.key):
        return kind == SHORTCUT.key or name in ("image_reliance", "redundancy")
    return kind in KINDS and KINDS[kind].in_image


def count_left(class_info: ClassReliance) -> int:
    """Images of the class that image reliance was not measured on; 0 where none was, or all were."""
    reliance = class_info.image_reliance
    return 0 if reliance is None else max(0, class_info.n - reliance.n)


def offer_more(decision: Decision, setting: Setting, class_info: ClassReliance) -> Decision:
    """The decision with a word on images that are there and would decide it."""
    left, needed = count_left(class_info), decision.n_needed
    if decision.outcome != "undecided" or not is_in_image(setting.key) or not left or not needed:
        return decision
    if needed > HOPELESS * class_info.n:
        return decision
    return dataclasses.replace(decision, why=f"{decision.why}; {left} more are there, an audit with --decide uses them")


def describe_second_looks(rules: tuple[Rule, ...], result: AuditResult, confidence: float) -> str | None:
    """Which judged classes were examined twice, and how they are judged therefore; None: none was."""
    judged = {rule.class_name for rule in rules if is_in_image(rule.key)}
    again = [
        f"{part.name} ({part.image_reliance.n} images)"
        for part in result.classes
        if part.image_reliance is not None and part.image_reliance.examinations > 1 and part.name in judged
    ]
    if not again:
        return None
    level = allow_for(confidence, LOOKS)
    named = name_some(again, 5)
    return f"examined a second time, since the first did not decide: {named}; judged at a confidence of {level:g}"
