"""The verdict under a policy."""

from __future__ import annotations

from dataclasses import dataclass, field

from salve_audit.records import AS_CLASS


@dataclass(frozen=True)
class Rule:
    rule: str
    class_name: str = field(metadata=AS_CLASS)
    value: float | None
    low: float | None
    high: float | None
    limit: float
    outcome: str  # "pass" | "fail" | "undecided" | "thin"


@dataclass(frozen=True)
class Verdict:
    passed: bool | None  # None: no policy was given, or no class could be judged
    policy: str | None
    rules: tuple[Rule, ...]
