"""The verdict under a policy."""

from __future__ import annotations

from dataclasses import dataclass, field

from salve_audit.results.schema import AS_CLASS

_SEVERITY = ("fail", "undecided", "thin", "pass")


@dataclass(frozen=True)
class Rule:
    """One rule of the policy on one class, with its outcome."""

    rule: str
    class_name: str = field(metadata=AS_CLASS)
    value: float | None
    low: float | None
    high: float | None
    limit: float
    outcome: str  # "pass" | "fail" | "undecided" | "thin"


@dataclass(frozen=True)
class Verdict:
    """The outcome of the policy over all classes."""

    passed: bool | None  # None: no policy was given, or no class could be judged
    policy: str | None
    rules: tuple[Rule, ...]

    @property
    def outcomes(self) -> dict[str, str]:
        """The worst outcome of any rule for each class."""
        worst: dict[str, str] = {}
        for rule in self.rules:
            before = worst.get(rule.class_name, "pass")
            worst[rule.class_name] = min(before, rule.outcome, key=_SEVERITY.index)
        return worst
