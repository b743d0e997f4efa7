"""The audit from end to end: the only place that wires the stages."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from salve_audit.activations.device import choose_device
from salve_audit.activations.store import Activations
from salve_audit.audit.assemble import StageResults, assemble
from salve_audit.audit.progress import Stopwatch
from salve_audit.audit.publish import check_writable, publishing
from salve_audit.audit.stages import (
    check_layers,
    edit_deeply,
    find_image_reliance,
    gather_comparison,
    measure_sensitivity,
    show_features,
    stress_compared,
    train_autoencoder,
)
from salve_audit.audit.subject import load_subject
from salve_audit.config import AuditConfig
from salve_audit.evidence.concept_file import FILE as CONCEPTS_FILE
from salve_audit.interventions.comparison import ComparisonSettings
from salve_audit.interventions.matched import compare_interventions
from salve_audit.reliance.assess import Reliance
from salve_audit.results import AuditResult
from salve_audit.sae.files import serialise_sae
from salve_audit.sae.stage import SaeOutcome


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
        seconds: wall time by stage.
    """

    result: AuditResult
    activations: Activations
    outcome: SaeOutcome
    sae_file: bytes
    concepts_file: bytes | None
    codes: np.ndarray
    reliance: Reliance
    seconds: dict[str, float]


def run_audit(config: AuditConfig, finish: Callable[[Audit], AuditResult] | None = None) -> AuditResult:
    """Audit a checkpoint on labelled images, or a file of arrays, and write the results where `config.out` is set.

    Args:
        config: what to do.
        finish: may add to the result before it is written (the demo adds its known truth).

    Returns:
        The result; ``verdict.passed`` is None where a limit was given and no class could be judged.

    Raises:
        SalveError: an input cannot be used or the results cannot be written; nothing is left in `config.out`.
    """
    watch = Stopwatch()
    if config.out is not None:
        check_writable(Path(config.out))
    audit = measure(config, watch)
    if finish is not None:
        audit = dataclasses.replace(audit, result=finish(audit))
    if config.out is not None:
        with watch.stage("report"):
            write_audit(audit, config)
    return audit.result


def measure(config: AuditConfig, watch: Stopwatch | None = None) -> Audit:
    """All stages up to the result, without writing anything but the activation cache."""
    watch, device = watch or Stopwatch(), choose_device(config.device)
    subject = load_subject(config, watch)
    check_layers(config, subject)
    with watch.stage("autoencoder"):
        trained = train_autoencoder(config, subject)
    with watch.stage("reliance"):
        reliance = measure_sensitivity(config, subject, trained)
    compared = gather_comparison(subject, trained, reliance)
    with watch.stage("interventions"):
        comparison = compare_interventions(ComparisonSettings(methods=config.interventions, seed=config.seed), compared)
    with watch.stage("stress"):
        stress = stress_compared(config, subject, trained, reliance, (compared, comparison))
    with watch.stage("deep edits"):
        deep_edits = edit_deeply(config, subject, trained, compared)
    with watch.stage("saliency"):
        seeing = show_features(config, subject, trained, reliance, stress.features)
    with watch.stage("image reliance"):
        evidence = find_image_reliance(config, subject, reliance)
    hashes = {"model_sha256": subject.model_sha256, "data_sha256": subject.activations.data_sha256}
    sae_file = serialise_sae(trained.sae, hashes)
    stages = StageResults(
        subject=subject,
        sae=trained.info,
        sae_sha256=hashlib.sha256(sae_file).hexdigest(),
        reliance=reliance,
        comparison=comparison,
        device=str(device),
        stress=stress,
        deep_edits=deep_edits,
        seeing=seeing,
        evidence=evidence,
    )
    result, concepts_file = assemble(config, stages), evidence.serialise(hashes)
    outcome, codes = trained.outcome, trained.codes
    return Audit(result, subject.activations, outcome, sae_file, concepts_file, codes, reliance, watch.seconds)


def write_audit(audit: Audit, config: AuditConfig) -> None:
    """Write the result files into `config.out`, all or nothing, and then the reports, each on its own.

    Raises:
        OutputError: the folder cannot be written, or a report cannot be rendered; audit.json is there all the same.
    """
    from salve_audit.audit.reports import write_reports
    from salve_audit.audit.samples import samples_table, serialise_samples
    from salve_audit.audit.samples_csv import samples_as_csv
    from salve_audit.report import Rendering

    assert config.out is not None, "write_audit needs a folder"
    result, out = audit.result, Path(config.out)
    table = samples_table(audit.activations.audit, audit.reliance.samples, result.data.classes)
    samples, concepts_file = serialise_samples(table), audit.concepts_file
    if config.anonymise:
        result, samples, concepts_file = _anonymise(result, samples, concepts_file, out)
    text = result.to_json().encode("utf-8")
    with publishing(out) as stage:
        (stage / "audit.json").write_bytes(text)
        (stage / "samples.parquet").write_bytes(samples)
        (stage / "sae.safetensors").write_bytes(audit.sae_file)
        if concepts_file is not None:
            (stage / CONCEPTS_FILE).write_bytes(concepts_file)
        if config.keep_activations:
            _write_activations(audit, stage / "activations.safetensors")
    rendering = Rendering(config.paper, config.pdf, config.lang, samples_csv=samples_as_csv(samples))
    write_reports(result, text, out, config.format, rendering)


def _anonymise(
    result: AuditResult, samples: bytes, concepts_file: bytes | None, out: Path
) -> tuple[AuditResult, bytes, bytes | None]:
    """The same without names; the key is written beside `out`."""
    from salve_audit.audit.private import anonymise_header, anonymise_samples, write_key
    from salve_audit.results.relabel import anonymise

    anonymous, key = anonymise(result)
    write_key(key, out)
    concepts_file = None if concepts_file is None else anonymise_header(concepts_file, key)
    return anonymous, anonymise_samples(samples, key), concepts_file


def _write_activations(audit: Audit, path: Path) -> None:
    """Everything that an audit of the file itself (``salve-audit activations.safetensors``) needs."""
    from safetensors.numpy import save_file

    activations = audit.activations
    names = {"class_names": audit.result.data.classes}
    names |= {"fit_paths": activations.fit.paths, "audit_paths": activations.audit.paths}
    save_file(
        {
            "fit_acts": np.ascontiguousarray(activations.fit.acts),
            "fit_labels": activations.fit.labels,
            "audit_acts": np.ascontiguousarray(activations.audit.acts),
            "audit_labels": activations.audit.labels,
            "head_weight": activations.head.weight,
            "head_bias": activations.head.bias,
        },
        path,
        {"names": json.dumps(names, ensure_ascii=False)},  # one key: the format shuffles several from run to run
    )
