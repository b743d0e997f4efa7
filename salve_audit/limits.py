"""What a policy asks for: one limit per statistic, each of them optional."""

from __future__ import annotations

import math
from dataclasses import dataclass

from salve_audit.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """Limits that a class must keep; None: nothing is asked.

    Attributes:
        fail_under: smallest alpha_hat flip median, above 0.
        fail_under_redundancy: smallest redundancy at depth, a count of pieces from 1.
        fail_over_reliance: largest reliance at depth, a drop of accuracy in 0..1.

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
    def policy(self) -> str | None:
        """The limits in words; None: there is none."""
        said = [
            f"fail under {self.fail_under:g}" if self.fail_under is not None else "",
            f"fail under a redundancy of {self.fail_under_redundancy}"
            if self.fail_under_redundancy is not None
            else "",
            f"fail over a reliance of {self.fail_over_reliance:g}" if self.fail_over_reliance is not None else "",
        ]
        return "; ".join(filter(None, said)) or None

    @property
    def at_depth(self) -> bool:
        """Does any limit need reliance at depth?"""
        return self.fail_under_redundancy is not None or self.fail_over_reliance is not None
