"""Words of notes after which no number of an audit means anything; shared by writer and reader."""

from __future__ import annotations

from collections.abc import Iterable

NO_BETTER = "no better than chance"
WRONG_OUTPUTS = "classes are probably mapped to the wrong outputs"


def find_distrust(notes: Iterable[str]) -> tuple[str, ...]:
    """The notes that say: accuracy is at chance, or another order of the outputs fits far better."""
    return tuple(note for note in notes if NO_BETTER in note or WRONG_OUTPUTS in note)
