"""What changed between two audits: the records that `salve_audit.compare` makes and the report prints."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from salve_audit.results import AuditResult, ClassReliance
from salve_audit.results.plain_text import plain

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 60  # of a table in a notebook


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
        old, new: saved audits without what no rule reads: galleries, curves, effects of features.
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

    def to_frame(self) -> pd.DataFrame:
        """A pandas table with one row per class, by name; ``shown``: the change is beyond chance.

        Of image reliance and accuracy the change is a difference of shares, of the flip median the share it rose by.
        """
        import pandas as pd

        return pd.DataFrame([_to_row(change) for change in self.classes]).set_index("class")

    def __repr__(self) -> str:
        counts = Counter(change.status.value for change in self.classes)
        listed = ", ".join(f"{n} {status}" for status, n in counts.most_common())
        what = f"{self.new.model.name} against {self.old.model.name}, {len(self.classes)} classes: {listed or 'none'}"
        differs = f"; {len(self.mismatches)} mismatches" if self.mismatches else ""
        return f"<Comparison of {plain(what)}{differs}>"

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        return str(self.to_frame().to_html(max_rows=MOST_ROWS))


def _to_row(change: ClassChange) -> dict[str, Any]:
    row: dict[str, Any] = {"class": change.name, "status": change.status.value}
    parts = {"image_reliance": change.reliance, "accuracy": change.accuracy, "alpha_hat": change.flip}
    for name, difference in parts.items():
        for end in ("old", "new", "value", "low", "high"):
            number = None if difference is None else getattr(difference, end)
            column = f"{name}_change" if end == "value" else f"{name}_{end}"
            row[column] = float("nan") if number is None else number + 0.0  # no -0.0
        row[f"{name}_shown"] = difference is not None and difference.is_shown
    return row
