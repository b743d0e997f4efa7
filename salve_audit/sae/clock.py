"""Time left for the autoencoder (``--sae-budget``): what the search has to leave for the training in full."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

EXPECTED = 60  # trainings of a search, about


@dataclass
class Clock:
    """A limit on wall time, and the speed seen so far.

    Attributes:
        limit: seconds; None: no limit.
        started: as `time.perf_counter` counts.
        progress: called with the trainings done and expected, after each.
        cut_short: what was left out because time ran short, in words.
    """

    limit: float | None = None
    started: float = field(default_factory=time.perf_counter)
    progress: Callable[[int, int], None] | None = None
    cut_short: list[str] = field(default_factory=list)
    _done: int = 0
    _work: float = 0.0
    _seconds: float = 0.0

    def note(self, work: float, seconds: float) -> None:
        """Count a training of so many multiply-adds."""
        self._work, self._seconds, self._done = self._work + work, self._seconds + seconds, self._done + 1
        if self.progress is not None:
            self.progress(self._done, max(EXPECTED, self._done + 1))

    def finish(self) -> None:
        """Tell that no training follows."""
        if self.progress is not None:
            self.progress(self._done, self._done)

    def left(self) -> float:
        """Seconds left; infinite without a limit."""
        return math.inf if self.limit is None else self.limit - (time.perf_counter() - self.started)

    def allows(self, work: float) -> bool:
        """True if so many multiply-adds, at the speed seen so far, end within the limit."""
        return self.limit is None or work * self._seconds <= max(0.0, self.left()) * self._work

    def affords(self, work: float) -> float:
        """The share of so much work that the time left allows, at most 1."""
        if self.limit is None or not self._seconds:
            return 1.0
        return min(1.0, max(0.0, self.left()) * self._work / (work * self._seconds))

    def miss(self, what: str) -> None:
        """Record what is left out, once."""
        if what not in self.cut_short:
            self.cut_short.append(what)
