"""Runs the stages of an audit, each from the cache where its result is there already.

A stage's key is a hash of what it depends on: the keys of the stages whose results it reads, the settings that it
reads, the code behind it, the libraries and the device. That none of this is forgotten is held by construction: a stage
is given nothing but the settings and results that its record declares, and reading anything else is an error.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from salve_audit.activations.actors import OpenActors
from salve_audit.activations.device import choose_device
from salve_audit.activations.memory import give_back_freed_memory
from salve_audit.activations.ray_actors import RayActors
from salve_audit.activations.ray_tasks import RayTasks
from salve_audit.audit import codec
from salve_audit.audit.code_version import file_version, function_version, library_versions
from salve_audit.audit.codec import hash_record
from salve_audit.audit.progress import Advance, Reporter, StageTime, hearing_warnings, log
from salve_audit.audit.stage_cache import KeptResult, StageCache, StageParts
from salve_audit.audit.subject import Subject
from salve_audit.config import AuditConfig, idle_settings
from salve_audit.inputs.data.mask_columns import hash_masks
from salve_audit.tasks import TaskMap

T = TypeVar("T")


@dataclass(frozen=True)
class Stage(Generic[T]):
    """One stage of the line.

    Attributes:
        name: in progress, cache and log.
        purpose: what it is for, in a plain phrase.
        kind: type of its result.
        compute: makes the result.
        reads: settings that change the result: fields and properties of `AuditConfig`.
        after: the stages whose results it reads.
        settled: False for a result that should not be kept, since it may come out better another time.
        happens: False where its result only says why there is none: then nobody is told of it.
    """

    name: str
    purpose: str
    kind: Any
    compute: Callable[[Given], T]
    reads: tuple[str, ...] = ()
    after: tuple[Stage[Any], ...] = ()
    settled: Callable[[T], bool] = lambda result: True
    happens: Callable[[Subject, AuditConfig], bool] = lambda subject, config: True


class Settings:
    """The configuration as a stage sees it: what its record declares, and what changes no result."""

    def __init__(self, config: AuditConfig, stage: str, reads: tuple[str, ...]) -> None:
        self._config, self._stage, self._reads = config, stage, reads

    def __getattr__(self, name: str) -> Any:
        assert name in self._reads or name in idle_settings(), (
            f"the stage {self._stage!r} reads the setting {name!r}, which its record does not declare"
        )
        return getattr(self._config, name)


@dataclass(frozen=True)
class Given:
    """All that a stage may read.

    Attributes:
        subject: what is audited.
        config: the settings that the stage declares.
        advance: tells how far the stage is.
        results: of the stages before it, by name.
        stage: that is run.
        parts: gives a store for parts of a long stage; None: nothing is kept.
        tasks: runs independent tasks on a cluster; None: this process does.
        actors: starts processes with a state on a cluster; None: there is none.
    """

    subject: Subject
    config: AuditConfig
    advance: Advance
    results: Mapping[str, Any]
    stage: Stage[Any]
    parts: Callable[[str], StageParts] | None = None
    tasks: TaskMap | None = None
    actors: OpenActors | None = None

    def __getitem__(self, stage: Stage[T]) -> T:
        """The result of a stage that is declared in `after`."""
        assert stage in self.stage.after, f"the stage {self.stage.name!r} does not declare that it reads {stage.name!r}"
        return cast(T, self.results[stage.name])


@dataclass
class StageRunner:
    """Runs stages of one audit.

    Attributes:
        config: of the audit.
        subject: what is audited.
        cache: of stage results.
        reporter: is told of every stage.
    """

    config: AuditConfig
    subject: Subject
    cache: StageCache
    reporter: Reporter
    results: dict[str, Any] = field(default_factory=dict)
    settled: bool = True

    def run(self, stage: Stage[T]) -> T:
        """The result of a stage, recalled or computed."""
        with self._tell(stage) as time:
            kept = self.cache.recall(stage.name, self.key(stage), stage.kind)
            time.from_cache = kept is not None
            if kept is None:
                with hearing_warnings() as heard:
                    kept = KeptResult(stage.compute(self._give(stage)), ())
                give_back_freed_memory()  # of threads that have ended: the next stage has others
                if stage.settled(kept.record):
                    self.cache.keep(stage.name, self.key(stage), KeptResult(kept.record, tuple(heard.texts)))
                    self.cache.drop_parts(stage.name, self.key(stage))
                else:
                    self.settled = False
            for text in kept.warnings:
                log.warning("%s", text)
        self.results[stage.name] = kept.record
        return cast(T, kept.record)

    def _tell(self, stage: Stage[Any]) -> AbstractContextManager[StageTime]:
        if self.happens(stage):
            return self.reporter.stage(stage.name, stage.purpose, self.is_ready(stage))
        return nullcontext(StageTime(stage.name))

    def happens(self, stage: Stage[Any]) -> bool:
        """True if the stage can measure something of this subject with these settings."""
        return stage.happens(self.subject, self._settings(stage))

    def amend(self, stage: Stage[T], purpose: str, compute: Callable[[Given], T]) -> T:
        """The result of a stage that was run, made anew by `compute` of what the stage is given, and not kept."""
        with self.reporter.stage(f"{stage.name}, continued", purpose):
            result = compute(self._give(stage))
        self.results[stage.name] = result
        return result

    def is_ready(self, stage: Stage[Any]) -> bool:
        """True if the result need not be computed."""
        return self.cache.holds(stage.name, self.key(stage))

    def key(self, stage: Stage[Any]) -> str:
        """Hash of all that the stage's result depends on."""
        parts = {
            "stage": stage.name,
            "settings": {name: getattr(self.config, name) for name in stage.reads},
            "after": {earlier.name: self.key(earlier) for earlier in stage.after},
            "code": [function_version(stage.compute), file_version(Path(codec.__file__))],
            "subject": self._subject_key,
            "libraries": dict(library_versions()),
            "device": str(choose_device(self.config.device)),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def _give(self, stage: Stage[Any]) -> Given:
        settings = self._settings(stage)
        parts = self.cache.parts(stage.name, self.key(stage))
        given = Given(self.subject, settings, self.reporter.advance, self.results, stage, parts)
        if self.config.engine != "ray":
            return given
        address = self.config.ray_address
        return dataclasses.replace(given, tasks=RayTasks(address), actors=RayActors(address))

    def _settings(self, stage: Stage[Any]) -> AuditConfig:
        return cast(AuditConfig, Settings(self.config, stage.name, stage.reads))

    @functools.cached_property
    def _subject_key(self) -> str:
        """Hash of what stages read of the subject: the activations' key stands for their values and for the network."""
        subject, activations = self.subject, self.subject.activations
        return hash_record(
            (
                activations.key,
                activations.head,
                activations.head_error,
                (activations.fit.labels, activations.fit.paths),
                (activations.audit.labels, activations.audit.paths),
                (subject.model, subject.model_sha256, subject.classes, subject.data_root, subject.attributes),
                (subject.images is None, subject.classifier is None),
                "" if subject.images is None else hash_masks(subject.images),
            )
        )
