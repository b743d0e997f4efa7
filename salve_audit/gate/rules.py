"""The rules that a policy can hold, each declared once: key, words, range of its limit, what it needs.

The measures behind them are in `salve_audit.gate.measures`. This module is light, for the configuration reads it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from salve_audit.errors import UsageError

SWITCH, NUMBER, COUNT, BY_NAME = "true or false", "a number", "a whole number", "a number, or a table of names"
ERROR, WARNING = "error", "warning"
MISMATCHES = ("data", "schema", "autoencoder", "classes", "digest")  # in what audit and baseline may differ


@dataclass(frozen=True)
class RuleKind:
    """A rule of a policy.

    Attributes:
        key: in a policy file.
        words: of the rule in audit.json, tables and messages; a name follows where the rule is `by_name`.
        value: what a policy gives: `SWITCH`, `NUMBER`, `COUNT` or `BY_NAME`.
        least, most: range of the limit.
        above: the limit has to be above `least`.
        names: those that a table may hold; empty: any.
        at_least: the measure has to be at least the limit, in place of at most.
        in_image: image reliance has to be measured for it.
        of_features: it rests on the autoencoder.
        of_audit: it judges the audit as a whole; in a class's override, that class.
        flag: the option that is a shorthand for it; empty: none.
        meaning: a sentence for documentation and for ``gate --init``.
    """

    key: str
    words: str
    meaning: str
    value: str = NUMBER
    least: float = 0.0
    most: float = 1.0
    above: bool = False
    names: tuple[str, ...] = field(default=())
    at_least: bool = False
    in_image: bool = False
    of_features: bool = False
    of_audit: bool = False
    flag: str = ""


RELIANCE = RuleKind(
    "max_image_reliance",
    "image reliance at most",
    "Largest drop of a class's accuracy when one concept or global factor is removed from its images.",
    in_image=True,
    flag="fail_over_reliance",
)
REDUNDANCY = RuleKind(
    "min_redundancy",
    "redundancy in the image at least",
    "Evidence regions to remove until at most half of a class's images are classified correctly.",
    value=COUNT,
    least=1,
    most=math.inf,
    at_least=True,
    in_image=True,
    flag="fail_under_redundancy",
)
ALPHA_HAT = RuleKind(
    "min_alpha_hat",
    "alpha_hat flip median at least",
    "Strength at which half of a class's correct predictions flip when its dominant feature is suppressed at the head.",
    most=math.inf,
    above=True,
    at_least=True,
    of_features=True,
    flag="fail_under",
)
FACTOR = RuleKind(
    "max_global_factor",
    "dependence on a global factor at most:",
    "Drop of a class's accuracy when a global factor (border, colour, ...) is removed: one limit for all, or by name.",
    value=BY_NAME,
    in_image=True,
)
DROP_MEASURES = ("accuracy", "alpha_hat", "image_reliance", "global_factor", "redundancy", "cross_class_damage")
DROP = RuleKind(
    "max_drop",
    "loss against the baseline at most:",
    "Worsening against the baseline, by measure: points of accuracy, image_reliance, global_factor (the one that "
    "surely rose most) or cross_class_damage (0.05), share of alpha_hat, regions of redundancy.",
    value=BY_NAME,
    most=math.inf,
    names=DROP_MEASURES,
)
FRAGILE_SHARE = RuleKind(
    "max_fragile_share",
    "share of fragile classes at most",
    "Share of judged classes that may violate rules of classes; with it, a single class does not fail the gate.",
    of_audit=True,
)
ACCURACY = RuleKind(
    "min_accuracy",
    "accuracy at least",
    "Accuracy over the audit images, or in a class's override of that class; below it nothing is trusted: exit code 2.",
    at_least=True,
    of_audit=True,
)
DAMAGE = RuleKind(
    "max_cross_class_damage",
    "damage to other classes at most",
    "Drop of the other classes' mean accuracy when suppressing the class's dominant feature takes the class to 5 %.",
    of_features=True,
)
NULL_P = RuleKind(
    "max_null_p",
    "p-value against null features at most",
    "The larger p-value of the null controls of a class's dominant feature.",
    of_features=True,
)
STABLE = RuleKind(
    "require_stable",
    "dominant feature stable over seeds",
    "The dominant feature of every class has to reappear under other seeds of the autoencoder.",
    value=SWITCH,
    at_least=True,
    of_features=True,
)
MEASURED = RuleKind(
    "require_measured",
    "image reliance measured",
    "Image reliance has to be measured for every class.",
    value=SWITCH,
    at_least=True,
    in_image=True,
)
KINDS: Mapping[str, RuleKind] = {
    kind.key: kind
    for kind in (
        RELIANCE, REDUNDANCY, ALPHA_HAT, FACTOR, DROP, FRAGILE_SHARE, ACCURACY, DAMAGE, NULL_P, STABLE, MEASURED,
    )
}  # fmt: skip
SHORTHANDS: Mapping[str, RuleKind] = {kind.flag: kind for kind in KINDS.values() if kind.flag}

# Rules that a review sets; see salve_audit.gate.review.
SHORTCUT = RuleKind(
    "max_shortcut", "dependence on a shortcut at most:", "Drop of accuracy without what the review calls a shortcut."
)
UNREVIEWED = RuleKind(
    "on_unreviewed", "no dependence that nobody has reviewed:", "Strong dependence that the review file does not name."
)


def check_limit(option: str, value: Any) -> float:
    """The limit that an option of the command line sets.

    Raises:
        UsageError: unknown, or out of range; names the option.
    """
    kind = SHORTHANDS.get(option)
    if kind is None:
        raise UsageError(option, "is no limit")
    reason = describe_outside(kind, value)
    if reason is not None:
        raise UsageError(option, reason)
    return float(value)


def describe_outside(kind: RuleKind, value: Any) -> str | None:
    """The reason why a limit cannot be one; None: it can."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return f"expected a number, got {type_name(value)}"
    limit = float(value)
    if kind.value == COUNT and math.isfinite(limit) and limit != int(limit):
        return f"expected a whole number, got {value}"
    if not math.isfinite(limit) or limit < kind.least or limit > kind.most or (kind.above and limit == kind.least):
        return f"{value} is {_range(kind, limit)}"
    return None


def _range(kind: RuleKind, value: float) -> str:
    if math.isfinite(kind.most):
        return f"not between {kind.least:g} and {kind.most:g}"
    if kind.above:
        return "not a positive number"
    return f"below {kind.least:g}" if value < kind.least else f"not a number from {kind.least:g} on"


def type_name(value: Any) -> str:
    """The type of a value as an error message names it."""
    return type(value).__name__
