"""The order of classes, and the verdict's limit on their flip medians."""

from __future__ import annotations

import math
from collections.abc import Sequence

from salve_audit.report.numbers import count
from salve_audit.results import AuditResult, ClassReliance, Verdict


def fragile_first(classes: Sequence[ClassReliance]) -> tuple[ClassReliance, ...]:
    """Classes by rising α̂ flip median: not reached after all others, without samples last."""

    def key(class_info: ClassReliance) -> tuple[bool, float, float, int]:
        flip = class_info.alpha_hat.flip
        median = math.inf if flip.median is None else flip.median
        return (class_info.n_correct == 0, median, math.inf if flip.low is None else flip.low, class_info.index)

    return tuple(sorted(classes, key=key))


def flip_limit(verdict: Verdict) -> float | None:
    """The limit on the α̂ flip median where the policy has exactly one."""
    limits = {rule.limit for rule in verdict.rules if rule.rule.startswith("alpha_hat flip")}
    return limits.pop() if len(limits) == 1 else None


def charted(result: AuditResult, limit: int) -> tuple[tuple[ClassReliance, ...], str]:
    """The classes with samples that charts show, at most `limit`, most fragile first, and a sentence on the rest."""
    usable = [class_info for class_info in fragile_first(result.classes) if class_info.n > 0]
    empty = len(result.classes) - len(usable)
    said = []
    if len(usable) > limit:
        said.append(f"Shown are the {limit} most fragile of {count(len(usable))} classes, by α̂ flip median.")
    if empty:
        said.append(f"{count(empty)} {'class has' if empty == 1 else 'classes have'} no audit images and no curve.")
    return tuple(usable[:limit]), " ".join(said)
