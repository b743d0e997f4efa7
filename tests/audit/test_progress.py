"""What an audit tells while it runs: events with texts and numbers, predictions, bars on a terminal alone."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

import pytest

from salve_audit.activations import extraction, ray_pool
from salve_audit.audit import progress
from salve_audit.audit.progress import Reporter, hearing_warnings, in_words


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(progress.time, "perf_counter", lambda: self.now)


@pytest.fixture(autouse=True)
def untouched_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loggers as a library's user has them, whatever a command line before has set."""
    package = logging.getLogger("salve_audit")
    monkeypatch.setattr(package, "propagate", True)
    monkeypatch.setattr(package, "handlers", [])
    for logger in (package, progress.log):
        monkeypatch.setattr(logger, "level", logging.NOTSET)
        logger.manager._clear_cache()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    """Told so far, by name and fields."""
    caplog.set_level(logging.DEBUG, "salve_audit")
    caplog.set_level(logging.DEBUG, progress.log.name)

    class Told(list[tuple[str, dict[str, Any]]]):
        def __iter__(self) -> Any:
            return iter([(record.event, record.fields) for record in caplog.records])

    return Told()


def test_a_stage_is_told_at_its_start_and_end(clock: Clock, events: list, caplog) -> None:
    reporter = Reporter()
    with reporter.stage("stress", "edits combined"):
        clock.now += 3
    assert [name for name, _ in events] == ["stage_started", "stage_finished"]
    assert dict(events)["stage_finished"] == {
        "stage": "stress",
        "seconds": 3.0,
        "predicted_seconds": None,
        "from_cache": False,
    }
    assert caplog.messages[0] == "stress: edits combined"
    assert reporter.seconds == {"stress": 3.0}


def test_progress_is_told_at_most_once_a_second_with_rate_and_rest(clock: Clock, events: list) -> None:
    reporter = Reporter()
    reporter.advance(1, 2)  # nobody is at work: nothing to tell
    with reporter.stage("pass"):
        for done in range(1, 9):
            clock.now += 0.5
            reporter.advance(done, 10)
    told = [fields for name, fields in events if name == "stage_progress"]
    assert [fields["done"] for fields in told] == [2, 4, 6, 8]
    assert [fields["rate"] for fields in told] == [2.0] * 4
    assert [fields["remaining_seconds"] for fields in told] == [4.0, 3.0, 2.0, 1.0]


def test_a_failed_stage_has_no_time(clock: Clock, events: list) -> None:
    reporter = Reporter()
    with pytest.raises(ValueError), reporter.stage("pass"):  # noqa: PT011, PT012
        clock.now += 1
        raise ValueError
    assert reporter.seconds == {}
    assert [name for name, _ in events] == ["stage_started"]


def test_the_rest_is_predicted_at_the_pace_so_far(clock: Clock, events: list, caplog) -> None:
    reporter = Reporter()
    reporter.predict({"a": 10.0, "b": 20.0, "c": 0.0})
    with reporter.stage("a", "first"):
        clock.now += 30
    with reporter.stage("b", "second"):
        clock.now += 20
    with reporter.stage("c", "third", from_cache=True):
        pass
    predictions = [fields for name, fields in events if name == "prediction"]
    assert [fields["seconds"] for fields in predictions] == [30.0, 60.0, 0.0]
    assert predictions[1]["stages"] == {"b": 60.0, "c": 0.0}
    assert "b: second, about 1 min" in caplog.messages
    assert "c: from the cache" in caplog.messages
    reporter.tell_finished()
    finished = dict(events)["audit_finished"]
    assert (finished["seconds"], finished["predicted_seconds"], finished["actual_seconds"]) == (50.0, 30.0, 50.0)
    assert [stage["predicted_seconds"] for stage in finished["stages"]] == [10.0, 20.0, 0.0]


def test_the_pace_corrects_by_a_bounded_factor(clock: Clock, events: list) -> None:
    reporter = Reporter()
    reporter.predict({"a": 10.0, "b": 10.0})
    with reporter.stage("a", "first"):
        clock.now += 1000
    assert [fields["seconds"] for name, fields in events if name == "prediction"] == [20.0, 40.0]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (3600, "1 h 0 min"), (7384, "2 h 3 min")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("bars", "stream", "drawn"), [(True, Terminal, True), (True, io.StringIO, False), (False, Terminal, False)]
)
def test_bars_are_drawn_on_a_terminal_where_they_are_wanted(
    bars: bool, stream: type[io.StringIO], drawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = stream()
    monkeypatch.setattr(sys, "stderr", shown)
    reporter = Reporter(bars=bars)
    with reporter.stage("pass"):
        reporter.advance(1, 4)
        reporter.advance(4, 4)
    assert ("pass" in shown.getvalue()) == drawn
    assert reporter._bar is None


def test_warnings_of_results_are_heard_and_those_of_this_run_alone_are_not() -> None:
    with hearing_warnings() as heard:
        logging.getLogger("salve_audit.sae.stage").warning("kept %d %%", 80)
        logging.getLogger("salve_audit.audit.stage_cache").warning("damaged")
        extraction.logger.warning("another process computes the same")
        ray_pool.logger.warning("a worker was lost")
        logging.getLogger("salve_audit.sae.stage").info("nothing")
    logging.getLogger("salve_audit.sae.stage").warning("too late")
    assert heard.texts == ["kept 80 %"]
