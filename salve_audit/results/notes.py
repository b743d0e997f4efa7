"""Notes that are known by their words: above all those after which no number of an audit means anything."""

from __future__ import annotations

from collections.abc import Sequence

NO_BETTER = "no better than chance"
WRONG_OUTPUTS = "classes are probably mapped to the wrong outputs"

DISTRUST = f"Accuracy is {NO_BETTER}, or {WRONG_OUTPUTS}: no number of this audit means anything."
NAMES_LEFT_OUT = "Names of classes and files were left out of this audit."
SAMPLED = "A stratified sample was audited"


def find_distrust(notes: Sequence[str], places: Sequence[int] | None) -> tuple[str, ...]:
    """The notes that say: accuracy is at chance, or another order of the outputs fits far better.

    Args:
        notes: of an audit.
        places: of these among them; None: an earlier version wrote the audit, so their words tell.
    """
    if places is None:
        return tuple(note for note in notes if NO_BETTER in note or WRONG_OUTPUTS in note)
    return tuple(notes[place] for place in places)
