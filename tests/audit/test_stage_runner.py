"""Stages are given what they declare, and run only where the cache lacks their result."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salve_audit.activations.store import Activations, ActivationSplit
from salve_audit.audit.line import DATA_CHECK, LINE
from salve_audit.audit.prediction import predict_stages
from salve_audit.audit.progress import Reporter
from salve_audit.audit.stage_cache import StageCache
from salve_audit.audit.stage_runner import Given, Stage, StageRunner
from salve_audit.audit.subject import Subject
from salve_audit.config import AuditConfig, idle_settings, measured_settings
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.results import ModelInfo

log = logging.getLogger("salve_audit.stages_of_a_test")


@dataclasses.dataclass(frozen=True)
class Number:
    value: float


def make_subject(key: str = "key") -> Subject:
    split = ActivationSplit(np.zeros((2, 1), np.float32), np.array([0, 1]), ("a", "b"))
    head = LinearHead(np.eye(2, 1, dtype=np.float32), np.zeros(2, np.float32), "fc")
    activations = Activations(split, split, head, None, key, "data", from_cache=False, skipped=())
    model = ModelInfo("m.pt", "none", "none", "fc", None, 1, 2, 4, None)
    return Subject(activations, ("x", "y"), model, "sha", "data", "", False, ())


class Line:
    """Two stages that count how often they are computed."""

    def __init__(self) -> None:
        self.computed: list[str] = []
        self.first = Stage("first", "", Number, self._first, reads=("seed",))
        self.second = Stage("second", "", Number, self._second, reads=("n_latents",), after=(self.first,))

    def _first(self, given: Given) -> Number:
        self.computed.append("first")
        log.warning("seed %d", given.config.seed)
        return Number(given.config.seed)

    def _second(self, given: Given) -> Number:
        self.computed.append("second")
        return Number(given[self.first].value + (given.config.n_latents or 0))


def run(line: Line, cache: StageCache, subject: Subject | None = None, **settings: Any) -> list[str]:
    """Names of the stages that had to be computed."""
    line.computed.clear()
    runner = StageRunner(AuditConfig("m", "d", **settings), subject or make_subject(), cache, Reporter())
    expected = settings.get("seed", 0) + settings.get("n_latents", 0)
    assert [runner.run(line.first).value, runner.run(line.second).value] == [settings.get("seed", 0), expected]
    return list(line.computed)


def test_only_what_depends_on_a_change_is_computed(tmp_path: Path) -> None:
    line, cache = Line(), StageCache(tmp_path, 10**9)
    assert run(line, cache) == ["first", "second"]
    assert run(line, cache) == []
    assert run(line, cache, fail_under=1.0, out="elsewhere", workers=3, format=("json",)) == []
    assert run(line, cache, n_latents=8) == ["second"]
    assert run(line, cache, seed=1) == ["first", "second"]
    assert run(line, cache, make_subject("other")) == ["first", "second"]
    assert run(line, cache) == []


def test_a_result_from_the_cache_says_its_warnings_again(tmp_path: Path, caplog) -> None:
    line, cache = Line(), StageCache(tmp_path, 10**9)
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            run(line, cache, seed=7)
        assert caplog.messages == ["seed 7"]


def test_stages_from_the_cache_are_told_as_such(tmp_path: Path) -> None:
    line, cache, told = Line(), StageCache(tmp_path, 10**9), []
    for _ in range(2):
        reporter = Reporter()
        runner = StageRunner(AuditConfig("m", "d"), make_subject(), cache, reporter)
        told.append([runner.is_ready(line.first), runner.is_ready(line.second)])
        runner.run(line.first)
        runner.run(line.second)
        told.append([time.from_cache for time in reporter.times])
    assert told == [[False, False], [False, False], [True, True], [True, True]]


def test_what_may_come_out_better_is_not_kept(tmp_path: Path) -> None:
    cache, n_made = StageCache(tmp_path, 10**9), []
    stage = Stage("unsettled", "", Number, lambda given: n_made.append(1) or Number(0), settled=lambda result: False)
    for _ in range(2):
        runner = StageRunner(AuditConfig("m", "d"), make_subject(), cache, Reporter())
        runner.run(stage)
        assert not runner.settled
    assert len(n_made) == 2


def test_stages_that_cannot_happen_are_not_told_of(tmp_path: Path) -> None:
    arrays, reporter = make_subject(), Reporter()
    runner = StageRunner(AuditConfig("m", interventions=("salve", "steering")), arrays, StageCache(None, 0), reporter)
    assert list(predict_stages(runner, LINE)) == ["autoencoder", "reliance", "interventions", "stress"]
    assert runner.run(DATA_CHECK).why_absent
    assert reporter.times == []
    images = dataclasses.replace(arrays, classifier=object(), images=object())
    off = AuditConfig("m", "d", evidence="off", images=False, deep_edits="off")
    for config, expected in ((AuditConfig("m", "d"), [*LINE]), (off, [*LINE[:4], DATA_CHECK])):
        runner = StageRunner(config, images, StageCache(None, 0), reporter)
        assert [stage for stage in LINE if runner.happens(stage)] == expected


def test_undeclared_settings_and_results_cannot_be_read(tmp_path: Path) -> None:
    line = Line()
    runner = StageRunner(AuditConfig("m", "d"), make_subject(), StageCache(tmp_path, 10**9), Reporter())
    hidden = Stage("greedy", "", Number, lambda given: Number(given.config.seed))
    with pytest.raises(AssertionError, match="'greedy' reads the setting 'seed', which its record does not declare"):
        runner.run(hidden)
    runner.run(line.first)
    greedy = Stage("greedy", "", Number, lambda given: given[line.first])
    with pytest.raises(AssertionError, match="'greedy' does not declare that it reads 'first'"):
        runner.run(greedy)
    allowed = Stage("modest", "", Number, lambda given: Number(given.config.workers or 0))
    assert runner.run(allowed) == Number(0)


def test_every_setting_is_measured_idle_or_a_limit() -> None:
    limits = {"decide", "fail_under", "fail_under_redundancy", "fail_over_reliance"}
    everything = {field.name for field in dataclasses.fields(AuditConfig)}
    assert measured_settings() | idle_settings() | limits == everything
    assert not measured_settings() & (idle_settings() | limits)


def test_the_line_reads_only_settings_that_exist_and_stages_before_it() -> None:
    for place, stage in enumerate(LINE):
        assert all(hasattr(AuditConfig("m", "d"), name) for name in stage.reads), stage.name
        assert all(earlier in LINE[:place] for earlier in stage.after), stage.name
