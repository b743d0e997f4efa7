"""Every change of a prediction while a class's dominant feature is suppressed: the confusion matrix at any strength."""

from __future__ import annotations

from dataclasses import dataclass, field

from salve_audit.results.schema import AS_CLASS


@dataclass(frozen=True)
class Confusion:
    """Images of one class that get one prediction."""

    label: int  # index of the output
    predicted: int
    n: int


@dataclass(frozen=True)
class SuppressionTrace:
    """Predictions under suppression of one class's dominant feature: one entry per change, by rising alpha_hat."""

    class_name: str = field(metadata=AS_CLASS)
    feature: int
    up_to: float  # alpha_hat beyond which nothing was looked for
    alpha_hat: tuple[float, ...]  # where one image's prediction changes: exact up to rounding to 7 digits
    label: tuple[int, ...]  # of that image
    before: tuple[int, ...]  # output that it was predicted as
    after: tuple[int, ...]


@dataclass(frozen=True)
class Suppression:
    """The confusion matrix of the audit split, and how suppression changes it."""

    start: tuple[Confusion, ...]  # without an edit
    traces: tuple[SuppressionTrace, ...]  # of the classes that are lost at the smallest strengths
    n_classes_left_out: int = 0
