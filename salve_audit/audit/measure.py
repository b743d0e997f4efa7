"""The audit's line: one stage after the other, each from the cache where its result is there already."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from salve_audit.activations.device import choose_device
from salve_audit.activations.memory import keeping_freed_memory
from salve_audit.activations.ray_cluster import connected
from salve_audit.activations.store import Activations
from salve_audit.audit.assemble import StageResults, assemble
from salve_audit.audit.first_result import tell_sensitivity
from salve_audit.audit.line import (
    AUTOENCODER,
    DATA_CHECK,
    DEEP_EDITS,
    IMAGE_RELIANCE,
    INTERVENTIONS,
    LINE,
    RELIANCE,
    SALIENCY,
    STRESS,
)
from salve_audit.audit.prediction import predict_stages, remember_ratios
from salve_audit.audit.progress import Reporter
from salve_audit.audit.recall import Measured
from salve_audit.audit.samples import ImageRemovals, describe_removals, samples_bytes
from salve_audit.audit.stage_cache import StageCache
from salve_audit.audit.stage_runner import StageRunner
from salve_audit.audit.stages import check_layers, examine_further
from salve_audit.audit.subject import Subject, load_subject
from salve_audit.config import AuditConfig
from salve_audit.evidence.stage import EvidenceOutcome
from salve_audit.reliance.assess import Reliance
from salve_audit.results import AuditResult
from salve_audit.sae.files import serialise_sae
from salve_audit.sae.stage import SaeOutcome

AskForMore = Callable[[AuditResult, bytes], Mapping[str, int]]  # result, samples.parquet -> images by class


@dataclass(frozen=True)
class Audit:
    """An audit in memory: the result and what it was computed from.

    Attributes:
        result: what audit.json will say.
        activations: cached activations of both splits.
        outcome: the autoencoder.
        sae_file: content of sae.safetensors.
        concepts_file: content of concepts.safetensors; None: image reliance was not measured.
        codes: (n, m) of the audit split.
        reliance: per-sample thresholds and class records.
        removals: what was removed from each image of the audit split.
        data_key: of the images, see `Subject`.
        settled: nothing in it may come out better another time.
    """

    result: AuditResult
    activations: Activations
    outcome: SaeOutcome
    sae_file: bytes
    concepts_file: bytes | None
    codes: np.ndarray
    reliance: Reliance
    removals: ImageRemovals
    data_key: str
    settled: bool

    def measured(self) -> Measured:
        """All that its files are made of."""
        samples = samples_bytes(self.activations.audit, self.reliance.samples, self.result.data.classes, self.removals)
        return Measured(self.result, samples, self.sae_file, self.concepts_file, self.activations)


@keeping_freed_memory()
def measure(
    config: AuditConfig,
    reporter: Reporter | None = None,
    cache: StageCache | None = None,
    ask_for_more: AskForMore | None = None,
    subject: Subject | None = None,
) -> Audit:
    """All stages up to the result, without writing anything but the cache.

    Args:
        config: what to do.
        reporter: is told of every stage; None: nobody listens.
        cache: of the stages' results; None: they are neither recalled nor kept.
        ask_for_more: names the images that further classes are to be examined on, once there is a result.
        subject: what is audited; None: what `config` names.
    """
    reporter, cache = reporter or Reporter(), cache or StageCache(None, 0)
    subject = subject or load_subject(config, reporter, cache.remote)
    if cache.folder is not None:
        cache.used.add(cache.folder / subject.activations.key)
    check_layers(config, subject)
    runner = StageRunner(config, subject, cache, reporter)
    reporter.predict(predict_stages(runner, LINE))
    trained = runner.run(AUTOENCODER)
    reliance = runner.run(RELIANCE)
    tell_sensitivity(reliance.classes)
    comparison = runner.run(INTERVENTIONS)
    stress = runner.run(STRESS)
    deep_edits = runner.run(DEEP_EDITS)
    seeing = runner.run(SALIENCY)
    data_check = runner.run(DATA_CHECK)
    evidence = runner.run(IMAGE_RELIANCE)
    remember_ratios(cache.folder, reporter.times)
    hashes = {"model_sha256": subject.model_sha256, "data_sha256": subject.activations.data_sha256}
    sae_file = serialise_sae(trained.sae, hashes)
    stages = StageResults(
        subject=subject,
        sae=trained.info,
        sae_sha256=hashlib.sha256(sae_file).hexdigest(),
        reliance=reliance,
        comparison=comparison,
        device=str(choose_device(config.device)),
        stress=stress,
        deep_edits=deep_edits,
        seeing=seeing,
        evidence=evidence,
        data_check=data_check,
    )
    result = assemble(config, stages)
    if ask_for_more is not None:
        removals = _describe_removals(subject, evidence)
        samples = samples_bytes(subject.activations.audit, reliance.samples, subject.classes, removals)
        wanted = ask_for_more(result, samples)
        if wanted:
            evidence = _look_again(runner, reliance, evidence, wanted)
            result = assemble(config, dataclasses.replace(stages, evidence=evidence))
    return Audit(
        result=result,
        activations=subject.activations,
        outcome=trained.outcome,
        sae_file=sae_file,
        concepts_file=evidence.serialise(hashes),
        codes=trained.encode(subject.activations.audit),
        reliance=reliance,
        removals=_describe_removals(subject, evidence),
        data_key=subject.data_key,
        settled=runner.settled,
    )


def _describe_removals(subject: Subject, evidence: EvidenceOutcome) -> ImageRemovals:
    return describe_removals(evidence, len(subject.activations.audit.labels), len(subject.classes))


def on_cluster(config: AuditConfig) -> AbstractContextManager[object]:
    """A connection to the cluster that the configuration names, for all stages of a block; nothing where it names none.

    Raises:
        UsageError: Ray is not installed, or there is no such cluster.
    """
    return connected(config.ray_address) if config.engine == "ray" else nullcontext()


def _look_again(
    runner: StageRunner, reliance: Reliance, first: EvidenceOutcome, wanted: Mapping[str, int]
) -> EvidenceOutcome:
    """Image reliance with so many images of these classes."""
    return runner.amend(
        IMAGE_RELIANCE,
        "more images of undecided classes",
        lambda given: examine_further(given, reliance, first, wanted),
    )


def without_values(activations: Activations) -> Activations:
    """Activations without their values, which the cache has on their own."""
    fit, audit = (dataclasses.replace(part, acts=part.acts[:0]) for part in (activations.fit, activations.audit))
    return dataclasses.replace(activations, fit=fit, audit=audit)
