"""What a running audit tells: its stages with what they are for, how far they are, how long the rest takes.

All of it goes through `logging`, as one record per event with the event's name and numbers beside its text, so that the
command line shows it as text or as JSON, and a program that uses the library hears as much as it wants. A bar on a
terminal is the only thing drawn beside that.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger(__name__)  # the command line shows it by default

Advance = Callable[[int, int], None]  # (done, total): what a stage that knows how far it is calls now and then
BETWEEN_S = 1.0  # seconds from one event of progress to the next
TELLING_S, MOST_OFF = 2.0, 4.0  # predicted seconds after which the pace is known, and how far it may correct the rest
MACHINERY = ("cache", ".extraction", ".ray_pool")  # ends of loggers that tell of this run alone
EVENTS = (  # docs/log-json.md says what each holds
    "audit_started",
    "stage_started",
    "stage_progress",
    "stage_finished",
    "first_result",
    "sensitivity",
    "prediction",
    "recalled",
    "audit_finished",
)


def emit(event: str, text: str | Sequence[str], level: int = logging.INFO, **fields: Any) -> None:
    """Log an event: text for people, one line or several, and its name and fields for machines."""
    assert event in EVENTS, f"{event!r} is no event"
    lines = (text,) if isinstance(text, str) else tuple(text)
    log.log(level, "%s", "\n".join(lines), extra={"event": event, "fields": fields, "lines": lines})


@dataclass
class StageTime:
    """One stage under way or done.

    Attributes:
        name: of the stage.
        predicted: seconds that it was expected to take before it began; None: nobody knew.
        seconds: that it took; None: it is not done.
        from_cache: its result was there already.
    """

    name: str
    predicted: float | None = None
    seconds: float | None = None
    from_cache: bool = False


@dataclass
class Reporter:
    """Tells of an audit while it runs, and keeps the times.

    Attributes:
        bars: draw a bar for every stage, where stderr is a terminal.
        times: of the stages so far, in order.
        predicted: by stage, the seconds that those ahead are expected to take.
    """

    bars: bool = False
    times: list[StageTime] = field(default_factory=list)
    predicted: Mapping[str, float] = field(default_factory=dict)
    _bar: Any = None
    _told: float = 0.0
    _began: float = 0.0

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time by stage, in seconds."""
        return {stage.name: stage.seconds for stage in self.times if stage.seconds is not None}

    @contextmanager
    def stage(self, name: str, purpose: str = "", from_cache: bool = False) -> Iterator[StageTime]:
        """Tell of a stage and time it.

        Args:
            name: of the stage.
            purpose: what it is for, in a plain phrase.
            from_cache: its result is there already.
        """
        expected = self._expect(name)
        stage = StageTime(name, self.predicted.get(name), from_cache=from_cache)
        self.times.append(stage)
        how_long = "" if expected is None else f", about {in_words(expected)}"
        text = f"{name}: from the cache" if from_cache else f"{name}: {purpose}{how_long}"
        emit(
            "stage_started",
            text if purpose else f"{name} ...",
            stage=name,
            purpose=purpose,
            predicted_seconds=_rounded(expected),
            from_cache=from_cache,
        )
        start = time.perf_counter()
        self._told = self._began = start
        try:
            yield stage
        finally:
            self._close_bar()
        stage.seconds = time.perf_counter() - start
        self._tell_end(stage)
        self._tell_rest()

    def _tell_end(self, stage: StageTime) -> None:
        assert stage.seconds is not None, "the stage is done"
        emit(
            "stage_finished",
            f"{stage.name}: " + ("from the cache" if stage.from_cache else f"{stage.seconds:.1f} s"),
            logging.DEBUG,
            stage=stage.name,
            seconds=round(stage.seconds, 3),
            predicted_seconds=_rounded(stage.predicted),
            from_cache=stage.from_cache,
        )

    def _tell_rest(self) -> None:
        """Tell how long the rest takes, now that one more stage is known."""
        ahead = {name: self._expect(name) or 0.0 for name in self.predicted if name not in self.seconds}
        if ahead:
            total = sum(ahead.values())
            stages = {name: round(value, 1) for name, value in ahead.items()}
            text = f"about {in_words(total)} to go"
            emit("prediction", text, logging.DEBUG, seconds=round(total, 1), stages=stages)

    def _expect(self, name: str) -> float | None:
        """What a stage ahead is expected to take: as predicted, at the pace of the stages so far."""
        if name not in self.predicted:
            return None
        told = [stage for stage in self.times if stage.predicted and not stage.from_cache and stage.seconds is not None]
        taken, predicted = sum(stage.seconds or 0.0 for stage in told), sum(stage.predicted or 0.0 for stage in told)
        pace = min(max(taken / predicted, 1 / MOST_OFF), MOST_OFF) if predicted >= TELLING_S else 1.0
        return self.predicted[name] * pace

    def advance(self, done: int, total: int) -> None:
        """Tell how far the present stage is; may be called as often as one likes."""
        if not self.times:
            return
        name = self.times[-1].name
        if self.bars and sys.stderr.isatty():
            self._draw(name, done, total)
        now = time.perf_counter()
        if now - self._told < BETWEEN_S:
            return
        self._told = now
        elapsed = now - self._began
        fields = {
            "rate": round(done / elapsed, 2),
            "remaining_seconds": round(elapsed * (total - done) / max(done, 1), 1),
        }
        text = f"{name}: {done} of {total}"
        emit("stage_progress", text, logging.DEBUG, stage=name, done=done, total=total, **fields)

    def _draw(self, name: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=total, desc=name, initial=done, leave=False, file=sys.stderr, dynamic_ncols=True)
        self._bar.total = total  # what is left may be known better now
        self._bar.update(done - self._bar.n)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None

    def predict(self, seconds: Mapping[str, float]) -> None:
        """Tell how long the stages ahead are expected to take."""
        self.predicted = dict(seconds)
        rounded = {name: round(value, 1) for name, value in seconds.items()}
        total = sum(seconds.values())
        longest = sorted(rounded, key=lambda name: -rounded[name])[:3]
        named = ", ".join(f"{name} {in_words(seconds[name])}" for name in longest if seconds[name] >= 1.0)
        text = f"about {in_words(total)} to go" + (f" ({named})" if named else "")
        emit("prediction", text, seconds=round(total, 1), stages=rounded)

    def tell_finished(self) -> None:
        """Tell that the audit is done, and how its times compare with what was predicted."""
        stages = [
            {
                "stage": stage.name,
                "seconds": round(stage.seconds or 0.0, 3),
                "predicted_seconds": None if stage.predicted is None else round(stage.predicted, 1),
                "from_cache": stage.from_cache,
            }
            for stage in self.times
        ]
        known = [stage for stage in self.times if stage.predicted is not None]
        total, predicted = sum(self.seconds.values()), sum(stage.predicted or 0.0 for stage in known)
        fields: dict[str, Any] = {"seconds": round(total, 3), "stages": stages}
        if known:
            fields["predicted_seconds"] = round(predicted, 1)
            fields["actual_seconds"] = round(sum(stage.seconds or 0.0 for stage in known), 3)
        emit("audit_finished", f"done in {in_words(total)}", **fields)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def in_words(seconds: float) -> str:
    """A duration as a person says it: "12 s", "3 min 20 s", "1 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{max(whole, 1)} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class HeardWarnings(logging.Handler):
    """Collects the warnings of the package, except those about the cache and the pass, which are not of a result."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.endswith(MACHINERY):
            self.texts.append(record.getMessage())


@contextmanager
def hearing_warnings() -> Iterator[HeardWarnings]:
    """The warnings that are logged in the block, besides where they go anyway."""
    heard, package = HeardWarnings(), logging.getLogger("salve_audit")
    package.addHandler(heard)
    try:
        yield heard
    finally:
        package.removeHandler(heard)
