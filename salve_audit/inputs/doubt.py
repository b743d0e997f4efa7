"""Words of a warning after which no number of an audit means anything; light, for the gate reads them too."""

from __future__ import annotations

from collections.abc import Iterable

NO_BETTER = "no better than chance"
WRONG_OUTPUTS = "classes are probably mapped to the wrong outputs"


def measures_nothing(notes: Iterable[str]) -> bool:
    """Whether accuracy is at chance and another order of the outputs fits far better, by an audit's notes."""
    return any(NO_BETTER in note and WRONG_OUTPUTS in note for note in notes)
