"""Decisions: choices between several readings of a model or of a data set that change what is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Decision:
    """What was taken where the inputs leave a choice, and why.

    Attributes:
        what: the thing decided, for instance ``class order``.
        taken: the choice, for instance ``3x96x96``.
        why: what said so, for instance ``args.val_crop_size``.
        conflict: what contradicts the choice, for instance another convention of the file's origin; empty: nothing.
    """

    what: str
    taken: str
    why: str
    conflict: str = ""

    def __str__(self) -> str:
        text = f"{self.what}: {self.taken} ({self.why})"
        return f"{text}; {self.conflict}" if self.conflict else text
