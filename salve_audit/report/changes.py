"""What changed between two audits: the records that `salve_audit.compare` makes and the report prints."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from salve_audit.results import AuditResult, ClassReliance


class Status(enum.Enum):
    """What became of a class, in the order in which a reader should meet it."""

    NEWLY_FRAGILE = "newly fragile"
    FIXED = "fixed"
    STILL_FRAGILE = "still fragile"
    CHANGED = "changed"
    UNCHANGED = "no change shown"
    ADDED = "only in the new audit"
    REMOVED = "only in the old audit"


@dataclass(frozen=True)
class Difference:
    """New less old, with its 95 % interval; None: not compared, or beyond every strength.

    Attributes:
        value, low, high: in the measure's own unit; of a flip median the share that it rose by.
        is_shown: the change is beyond chance, corrected over classes.
    """

    old: float | None
    new: float | None
    value: float | None
    low: float | None
    high: float | None
    is_shown: bool


@dataclass(frozen=True)
class ClassChange:
    """One class in both audits; None: it is missing in one."""

    name: str
    status: Status
    old: ClassReliance | None
    new: ClassReliance | None
    reliance: Difference | None
    accuracy: Difference | None
    flip: Difference | None


@dataclass(frozen=True)
class Comparison:
    """Two audits side by side.

    Attributes:
        mismatches: what differs besides the model, each in words; empty: nothing does.
        pairing: how accuracies and flip medians were compared, in words.
        classes: newly fragile and fixed ones first.
    """

    old: AuditResult
    new: AuditResult
    mismatches: tuple[str, ...]
    pairing: str
    classes: tuple[ClassChange, ...]

    def of(self, status: Status) -> tuple[ClassChange, ...]:
        """The classes of one status."""
        return tuple(change for change in self.classes if change.status is status)
