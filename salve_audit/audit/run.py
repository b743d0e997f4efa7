"""The audit from end to end: recalled whole, or measured; judged; written.

Torch is loaded only where something has to be measured.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from salve_audit import __version__
from salve_audit.activations.cache import META, read_entry
from salve_audit.activations.room import Need, check_rooms
from salve_audit.activations.store import Activations
from salve_audit.audit.cache_folder import GIGABYTE, find_cache_dir, find_remote
from salve_audit.audit.disk_needs import OTHER_DISK
from salve_audit.audit.judgement import Judgement, choose_more_images, judge_audit, prepare_judgement
from salve_audit.audit.progress import Reporter, emit, hearing_warnings, log
from salve_audit.audit.publish import check_writable, publishing
from salve_audit.audit.recall import Measured, find_audit, keep_audit
from salve_audit.audit.stage_cache import KeptResult, StageCache
from salve_audit.config import AuditConfig, described
from salve_audit.errors import UsageError
from salve_audit.results import AuditResult
from salve_audit.results.stale import mark_stale

if TYPE_CHECKING:
    from salve_audit.audit.measure import Audit

REPORT = "numbers judged and written down"


def run_audit(
    config: AuditConfig,
    finish: Callable[[Audit], AuditResult] | None = None,
    reporter: Reporter | None = None,
) -> AuditResult:
    """Audit a checkpoint on labelled images, or a file of arrays, and write the results where `config.out` is set.

    The same model, data and settings as in an earlier audit give the same result from the cache (`config.use_cache`).

    Args:
        config: what to do.
        finish: may add to the result before it is written (the demo adds its known truth).
        reporter: is told of the stages; None: one that logs, and draws bars where `config.progress` is set.

    Returns:
        The result; ``verdict.exit_code`` is 2 where there is a policy and the audit cannot be trusted.

    Raises:
        SalveError: an input cannot be used or the results cannot be written; nothing is left in `config.out`.

    >>> import numpy as np, salve_audit
    >>> rng = np.random.default_rng(0)
    >>> arrays = {"acts": rng.normal(size=(60, 8)).astype("float32"), "labels": np.arange(60) % 2}
    >>> np.savez("arrays.npz", weight=rng.normal(size=(2, 8)).astype("float32"), **arrays)
    >>> quick = {"sae": "linear-l1", "sae_seeds": 1, "interventions": ["salve"], "use_cache": False}
    >>> result = salve_audit.run_audit(salve_audit.AuditConfig(model="arrays.npz", **quick))
    >>> len(result.classes), result.data.n_audit
    (2, 24)
    """
    given: object = config
    if not isinstance(given, AuditConfig):
        hint = "run_audit(AuditConfig(model=PATH, data=DIR)); audit_model(model, train, val) audits a module in memory"
        raise UsageError("run_audit", f"expected an AuditConfig, got {type(given).__name__}", hint=hint)
    reporter = reporter or Reporter(bars=config.progress)
    if config.out is not None:
        check_writable(Path(config.out))
        mark_stale(Path(config.out), f"an audit of {config.model} that started later has not finished")
    name = Path(config.model).name
    emit("audit_started", f"salve-audit {__version__}: {name}", logging.DEBUG, version=__version__, model=name)
    judgement = prepare_judgement(config)
    cache = open_cache(config)
    measured = None if finish is not None else _recall(config, cache)
    if measured is None:
        measured = _measure(config, finish, cache, reporter, judgement)
    measured = _judge(judgement, measured)
    if config.out is not None:
        with reporter.stage("report", REPORT):
            write_audit(measured, config, cache)
    reporter.tell_finished()
    from salve_audit.audit.kept_files import keep_files

    return keep_files(measured, config)


def open_cache(config: AuditConfig) -> StageCache:
    """The cache that the configuration names.

    Raises:
        UsageError: it is a URL whose package is not installed, or whose bucket is not there.
    """
    folder = find_cache_dir(config.cache) if config.use_cache else None
    remote = find_remote(config.cache) if config.use_cache else None
    if remote is not None:
        remote.check()
    if config.use_cache and folder is None:
        log.warning("there is no home folder to keep a cache in: --cache DIR names one, --no-cache does without")
    about = Path(config.model).name + ("" if config.data is None else f" on {Path(config.data).name}")
    return StageCache(folder, int(config.cache_limit * GIGABYTE), about, remote)


def _recall(config: AuditConfig, cache: StageCache) -> Measured | None:
    """The whole audit from the cache; None: it is not there."""
    kept = find_audit(config, cache)
    if kept is None:
        return None
    measured: Measured = kept.record
    if config.keep_activations:
        activations = _recall_values(measured.activations, cache)
        if activations is None:
            return None
        measured = dataclasses.replace(measured, activations=activations)
    created, result = measured.result.created, measured.result
    emit("recalled", f"measured before, {created}: the same model, data, settings and code", created=created)
    for text in kept.warnings:
        log.warning("%s", text)
    settings = dataclasses.replace(result.provenance, config=described(config))
    return dataclasses.replace(measured, result=dataclasses.replace(result, provenance=settings))


def _judge(judgement: Judgement, measured: Measured) -> Measured:
    """What was measured, with the verdict of the present policy."""
    return dataclasses.replace(measured, result=judge_audit(judgement, measured.result, measured.samples))


def _recall_values(activations: Activations, cache: StageCache) -> Activations | None:
    """Activations with their values, which the cache has on their own; None: no longer."""
    if cache.folder is not None and cache.remote is not None:
        cache.remote.fetch_whole(cache.folder / activations.key, META)
    entry = None if cache.folder is None else read_entry(cache.folder, activations.key)
    if entry is None:
        return None
    acts, n_fit = entry[0], len(activations.fit.labels)
    return dataclasses.replace(
        activations,
        fit=dataclasses.replace(activations.fit, acts=acts[:n_fit]),
        audit=dataclasses.replace(activations.audit, acts=acts[n_fit:]),
    )


def _measure(
    config: AuditConfig,
    finish: Callable[[Audit], AuditResult] | None,
    cache: StageCache,
    reporter: Reporter,
    judgement: Judgement,
) -> Measured:
    """Measure everything that the cache lacks, and keep the whole for the next audit."""
    from salve_audit.audit.measure import measure, on_cluster, without_values

    ask_for_more = functools.partial(choose_more_images, judgement) if config.decide else None
    with on_cluster(config), hearing_warnings() as heard:
        audit = measure(config, reporter, cache, ask_for_more)
    if finish is not None:
        audit = dataclasses.replace(audit, result=finish(audit))
    measured = audit.measured()
    if finish is None and audit.settled and cache.folder is not None:
        kept = dataclasses.replace(measured, activations=without_values(measured.activations))
        keep_audit(config, cache, audit.data_key, KeptResult(kept, tuple(heard.texts)))
    return measured


def write_audit(measured: Measured, config: AuditConfig, cache: StageCache | None = None) -> None:
    """Write the result files into `config.out`, all or nothing, and then the reports, each on its own.

    Raises:
        OutputError: the folder cannot be written, or a report cannot be rendered; audit.json is there all the same.
    """
    from salve_audit.audit.activations_file import count_bytes, write_activations
    from salve_audit.audit.private import anonymise_measured
    from salve_audit.audit.reports import choose_rendering, write_reports

    assert config.out is not None, "write_audit needs a folder"
    out = Path(config.out)
    rendering = choose_rendering(measured, config)
    if config.anonymise:
        measured, rendering = (
            anonymise_measured(measured, out),
            dataclasses.replace(rendering, samples_csv=None, review_form=False),
        )
    result = measured.result
    text = result.to_json().encode("utf-8")
    files = {"audit.json": text, "samples.parquet": measured.samples, "sae.safetensors": measured.sae}
    if measured.concepts is not None:
        files["concepts.safetensors"] = measured.concepts
    n_bytes = sum(map(len, files.values())) + (count_bytes(measured.activations) if config.keep_activations else 0)
    check_rooms([Need(out, n_bytes, "the results", OTHER_DISK)], spare=0)
    with publishing(out) as stage:
        for name, content in files.items():
            (stage / name).write_bytes(content)
        if config.keep_activations:
            write_activations(measured.activations, result.data.classes, stage / "activations.safetensors")
    write_reports(result, text, out, config.format, rendering, cache)
