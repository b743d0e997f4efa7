"""The verdict under a policy: the one object that exit code, terminal, files for CI and the report all read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from salve_audit.results.schema import AS_CLASS

HOLDS, VIOLATED, UNTRUSTED = 0, 1, 2  # exit codes
_SEVERITY = ("fail", "undecided", "thin", "pass")
_EFFECTS = {"fail": "fail", "undecided": "warn", "thin": "skip", "pass": "pass"}  # of outcomes in older files
WORDS = {HOLDS: "passed", VIOLATED: "FAILED", UNTRUSTED: "NOT JUDGED"}


@dataclass(frozen=True)
class Rule:
    """One rule of the policy on one class, with its outcome and what the outcome does.

    The interval decides the outcome; severity, exceptions and the policy's words on undecided and thin classes decide
    the effect.
    """

    rule: str  # in words
    class_name: str = field(metadata=AS_CLASS)  # empty: the audit as a whole
    value: float | None  # None: not reached, or not measured
    low: float | None
    high: float | None
    limit: float
    outcome: str  # "pass" | "fail" | "undecided" | "thin" (not judged)
    effect: str = ""  # "pass" | "fail" | "warn" | "skip" | "exempt" | "error"; "fail" alone violates, "error" is exit 2
    key: str = ""  # in a policy file; empty: an earlier version wrote this
    why: str = ""  # the reason, for every outcome but a plain pass or fail
    n: int | None = None  # images behind the value
    n_needed: int | None = (
        None  # images that would decide it, by the width of the interval; None: decided, or no number
    )
    line: int | None = None  # of the policy file
    identity: str = ""  # of what a review speaks of: its kind and fingerprint, by which later audits call it the same

    def __post_init__(self) -> None:
        if not self.effect:
            object.__setattr__(self, "effect", _EFFECTS.get(self.outcome, "error"))

    @property
    def is_skipped_factor(self) -> bool:
        """True of the check on one of the many global factors, where it was skipped."""
        return self.effect == "skip" and self.key.startswith("max_global_factor.")


@dataclass(frozen=True)
class Verdict:
    """The outcome of the policy over all classes."""

    passed: bool | None  # None: no policy was given, or the audit cannot be trusted
    policy: str | None  # in words
    rules: tuple[Rule, ...]
    problems: tuple[str, ...] = ()  # why nothing can be said: any of them is exit code 2
    notes: tuple[str, ...] = ()  # what else a reader should know
    source: str = ""  # of the policy, in words
    policy_file: str = ""  # as the user gave it; empty: none
    table: Mapping[str, Any] = field(default_factory=dict)  # the policy as it was read, so that it can be judged again

    @property
    def outcomes(self) -> dict[str, str]:
        """The worst outcome of any rule for each class."""
        worst: dict[str, str] = {}
        for rule in self.rules:
            if rule.class_name:
                before = worst.get(rule.class_name, "pass")
                worst[rule.class_name] = min(before, rule.outcome, key=_SEVERITY.index)
        return worst

    @property
    def exit_code(self) -> int:
        """0: holds, or no policy was given; 1: violated; 2: the audit cannot be trusted, which nothing masks."""
        if self.problems or (self.policy is not None and self.passed is None):
            return UNTRUSTED
        return VIOLATED if self.passed is False else HOLDS

    @property
    def word(self) -> str:
        """``passed``, ``FAILED`` or ``NOT JUDGED``; ``no policy`` without one."""
        return "no policy" if self.policy is None and not self.problems else WORDS[self.exit_code]

    def by_effect(self, *effects: str) -> tuple[Rule, ...]:
        """The rules with one of these effects, in their order."""
        return tuple(rule for rule in self.rules if rule.effect in effects)

    @property
    def summary(self) -> str:
        """How many checks there are by what they came to, in words."""
        counts = {
            "violated": len(self.by_effect("fail")),
            "not trustworthy": len(self.by_effect("error")),
            "warned": len(self.by_effect("warn")),
            "exempt": len(self.by_effect("exempt")),
            "skipped": len(self.by_effect("skip")),
            "held": len(self.by_effect("pass")),
        }
        return ", ".join(f"{n} {word}" for word, n in counts.items() if n) or "no check"


NO_VERDICT = Verdict(passed=None, policy=None, rules=())
