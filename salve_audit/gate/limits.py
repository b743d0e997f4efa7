"""Limits of a policy: one per statistic, each of them optional. The rules that they set are declared here once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from salve_audit.errors import UsageError


@dataclass(frozen=True)
class LimitRule:
    """A rule that a limit on one statistic of a class sets.

    Attributes:
        key: of the limit, as a field of `Limits` and as an option.
        name: of the rule in audit.json and in texts.
        policy: format of the limit in the words of a policy.
        in_image: image reliance has to be measured for it.
    """

    key: str
    name: str
    policy: str
    in_image: bool = True


FLIP_RULE = LimitRule("fail_under", "alpha_hat flip median at least", "fail under {:g}", in_image=False)
REDUNDANCY_RULE = LimitRule(
    "fail_under_redundancy", "redundancy in the image at least", "fail under a redundancy of {}"
)
RELIANCE_RULE = LimitRule("fail_over_reliance", "image reliance at most", "fail over an image reliance of {:g}")
RULES = (FLIP_RULE, REDUNDANCY_RULE, RELIANCE_RULE)


@dataclass(frozen=True)
class Limits:
    """Limits that a class must keep; None: nothing is asked.

    Attributes:
        fail_under: smallest alpha_hat flip median, above 0.
        fail_under_redundancy: smallest redundancy in the image, a count of evidence regions from 1.
        fail_over_reliance: largest image reliance, a drop of accuracy in 0..1.

    Raises:
        UsageError: a limit is outside its range; names the key.
    """

    fail_under: float | None = None
    fail_under_redundancy: int | None = None
    fail_over_reliance: float | None = None

    def __post_init__(self) -> None:
        flip, redundancy, reliance = self.fail_under, self.fail_under_redundancy, self.fail_over_reliance
        if flip is not None and not 0 < flip < math.inf:
            raise UsageError("fail_under", f"{flip} is not a positive number")
        if redundancy is not None and redundancy < 1:
            raise UsageError("fail_under_redundancy", f"{redundancy} is below 1")
        if reliance is not None and not 0 <= reliance <= 1:
            raise UsageError("fail_over_reliance", f"{reliance} is not between 0 and 1")

    @property
    def given(self) -> dict[LimitRule, float]:
        """The limits that are not None, by the rules that they set."""
        limits = {rule: getattr(self, rule.key) for rule in RULES}
        return {rule: limit for rule, limit in limits.items() if limit is not None}

    @property
    def policy(self) -> str | None:
        """The limits in words; None: there is none."""
        return "; ".join(rule.policy.format(limit) for rule, limit in self.given.items()) or None

    @property
    def in_image(self) -> bool:
        """True where a limit needs image reliance."""
        return any(rule.in_image for rule in self.given)
