"""Words of a verdict that several formats share: one sentence a check, and the order of the worst."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from salve_audit.gate.rules import FACTOR, UNREVIEWED
from salve_audit.results import Rule, Verdict
from salve_audit.results.plain_text import plain

UNTRUSTED = "untrusted"  # stands for a rule's key where a whole audit cannot be trusted
_ORDER = ("error", "fail", "warn", "exempt", "skip", "pass")
LABELS = {
    "error": "not trustworthy",
    "fail": "violated",
    "warn": "warning",
    "exempt": "exempt",
    "skip": "skipped",
    "pass": "held",
}
MAX_NAME = 200
ROOTS = ("GITHUB_WORKSPACE", "CI_PROJECT_DIR")  # of the repository, in GitHub Actions and GitLab


def file_of(verdict: Verdict, place: str) -> str:
    """The file that findings point at, from the root of the repository that is being built: the policy, or `place`."""
    path = Path(verdict.policy_file or place)
    for variable in ROOTS:
        root = Path(os.environ.get(variable) or os.curdir).resolve()
        if os.environ.get(variable) and path.resolve().is_relative_to(root):
            return path.resolve().relative_to(root).as_posix()
    return path.as_posix()


def worst_first(verdict: Verdict) -> tuple[Rule, ...]:
    """The checks by effect, and within one by how far the value lies beyond the limit; skipped factors as one check."""
    rules = _fold_skipped(verdict.rules)
    return tuple(sorted(rules, key=lambda rule: (_ORDER.index(rule.effect), -_excess(rule), rule.class_name)))


def _fold_skipped(rules: Sequence[Rule]) -> Iterator[Rule]:
    """Of the many global factors of a class that were skipped, one check."""
    skipped: dict[tuple[str, str], list[Rule]] = {}
    for rule in rules:
        if rule.is_skipped_factor:
            skipped.setdefault((rule.class_name, rule.why), []).append(rule)
        else:
            yield rule
    for own in skipped.values():
        words = f"dependence on {len(own)} global factors at most"
        yield own[0] if len(own) == 1 else replace(own[0], rule=words, key=FACTOR.key, value=None, low=None, high=None)


def identify(rules: Sequence[Rule]) -> tuple[str, ...]:
    """What identifies each check beside its class: unique, and the same in later audits."""
    counts: Counter[tuple[str, str]] = Counter()
    identities = []
    for rule in rules:
        own = f"{rule.key.partition('.')[0]} {rule.identity}" if rule.identity else key_of(rule)
        counts[rule.class_name, own] += 1
        n = counts[rule.class_name, own]
        identities.append(own if n == 1 else f"{own} {n}")
    return tuple(identities)


def describe(rule: Rule) -> str:
    """A check in one sentence: class, rule, limit, value with interval, and why."""
    if _is_unreviewed(rule):
        why = f" ({plain(rule.why)})" if rule.effect == "exempt" else ""
        return f"{name_of(rule)}: {rule_words(rule)}; {value_of(rule)}{why}"
    said = f"{name_of(rule)}: {rule_words(rule)}; {value_of(rule)}"
    outcome = {"undecided": "undecided", "thin": "not judged"}.get(rule.outcome, "")
    reason = ": ".join(filter(None, (outcome, plain(rule.why))))
    return f"{said} ({reason})" if reason else said


def _is_unreviewed(rule: Rule) -> bool:
    return rule.key.startswith(f"{UNREVIEWED.key}.")


def rule_words(rule: Rule) -> str:
    """The rule with its limit, or what nobody has reviewed."""
    if _is_unreviewed(rule):
        return f"depends on {plain(rule.key.partition('.')[2])}, which nobody has reviewed"
    return f"{plain(rule.rule)}{limit_of(rule)}"


def name_of(rule: Rule) -> str:
    """The class of a check, or the audit."""
    name = plain(rule.class_name) or "the audit"
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


def limit_of(rule: Rule) -> str:
    """The limit with a space before it; nothing for a switch."""
    return "" if rule.key.startswith("require_") or rule.key == UNREVIEWED.key else f" {rule.limit:g}"


def value_of(rule: Rule) -> str:
    """Value and interval, or that there is none."""
    if rule.outcome == "thin":
        return "no value"
    if rule.key.startswith("require_"):
        return "yes" if rule.value else "no"
    value = "not reached" if rule.value is None else f"{rule.value:.3g}"
    if rule.low == rule.high and rule.value == rule.low:
        return value
    low, high = ("∞" if bound is None else f"{bound:.3g}" for bound in (rule.low, rule.high))
    return f"{value} [{low}, {high}]"


def key_of(rule: Rule) -> str:
    """The key of a check in a policy; of checks from earlier versions their words."""
    return rule.key or rule.rule


def _excess(rule: Rule) -> float:
    if rule.value is None or not math.isfinite(rule.value):
        return 0.0
    return abs(rule.value - rule.limit) / (abs(rule.limit) or 1.0)
