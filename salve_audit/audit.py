"""The audit from end to end: the only place that wires the stages."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from salve_audit.activations import choose_device
from salve_audit.activations.store import Activations
from salve_audit.assembly import StageResults, assemble
from salve_audit.config import AuditConfig
from salve_audit.deep_edits import edit_deeply
from salve_audit.depth.file import FILE as CONCEPTS_FILE
from salve_audit.depth.file import serialise_concepts
from salve_audit.depth.layers import check_depth_layers
from salve_audit.depth.stage import measure_depth
from salve_audit.galleries import check_saliency_layer, show_features
from salve_audit.inputs.head import LinearHead
from salve_audit.interventions import (
    Comparison,
    ComparisonInputs,
    ComparisonSettings,
    SeedFeatures,
    compare_interventions,
)
from salve_audit.outputs import check_writable, publishing
from salve_audit.reliance.assess import Reliance, RelianceInputs, assess_reliance
from salve_audit.reliance.features import FeatureUse, describe_blocks
from salve_audit.reliance.scaling import Samples
from salve_audit.reliance.spread import OtherSeed
from salve_audit.results import AuditResult, SaeFidelity
from salve_audit.sae.files import serialise_sae
from salve_audit.sae.metrics import measure_quality
from salve_audit.sae.models import CHUNK_ROWS, TrainedSae
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import SaeOutcome, train_sae
from salve_audit.sae.supervised_concepts import Concepts, gather_concepts
from salve_audit.stopwatch import Stopwatch
from salve_audit.stress import StressInputs, StressOutcome, stress_edits
from salve_audit.subject import Subject, load_subject

log = logging.getLogger(__name__)
TRANSFORMERS = ("vit", "deit", "beit", "eva", "cait", "swin", "maxvit", "flexivit")  # by the start of timm's names
PAPER_BATCH_TRANSFORMER = 16  # METHOD §1: 32 for convolutional networks


@dataclass(frozen=True)
class Audit:
    """An audit in memory: the result and what it was computed from.

    Attributes:
        result: what audit.json will say.
        activations: cached activations of both splits.
        outcome: the autoencoder.
        sae_file: content of sae.safetensors.
        concepts_file: content of concepts.safetensors; None: reliance at depth was not measured.
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
    check_saliency_layer(config, subject)
    check_depth_layers(config, subject)
    activations = subject.activations
    with watch.stage("autoencoder"):
        outcome = train_sae(
            activations.fit.acts,
            activations.fit.labels,
            activations.head,
            _sae_settings(config, subject.model.architecture, device),
            _find_concepts(subject) if config.sae == "supervised" else None,
        )
        info = dataclasses.replace(outcome.info, on_audit=_measure_fidelity(outcome.sae, activations))
        codes = outcome.sae.encode(activations.audit.acts)
    with watch.stage("reliance"):
        other_seeds = tuple(_seen_by(one, activations) for one in outcome.seeds[1:])
        reliance = _assess(config.seed, subject, outcome.sae, other_seeds)
    compared = _comparison_inputs(activations, outcome, reliance, subject.classes)
    compared = dataclasses.replace(compared, other_seeds=other_seeds, fragility=_fragility(reliance, activations.head))
    with watch.stage("interventions"):
        comparison = compare_interventions(ComparisonSettings(methods=config.interventions, seed=config.seed), compared)
    with watch.stage("stress"):
        coded = (outcome.sae.encoder_weight, codes, activations.audit.paths)
        stress = _stress(config.seed, compared, comparison, reliance, coded)
    with watch.stage("deep edits"):
        deep_edits = edit_deeply(config, subject, compared, outcome.sae.encoder_weight)
    with watch.stage("saliency"):
        seeing = show_features(config, subject, (outcome.sae, codes), reliance, stress.features)
    with watch.stage("depth"):
        depth = measure_depth(config, subject, reliance.classes, _fragility(reliance, activations.head))
    hashes = {"model_sha256": subject.model_sha256, "data_sha256": activations.data_sha256}
    sae_file = serialise_sae(outcome.sae, hashes)
    sha = hashlib.sha256(sae_file).hexdigest()
    stages = StageResults(subject, info, sha, reliance, comparison, str(device), stress, deep_edits, seeing, depth)
    concepts_file = None if depth.projections is None else serialise_concepts(depth.projections, depth.concepts, hashes)
    return Audit(
        assemble(config, stages), activations, outcome, sae_file, concepts_file, codes, reliance, watch.seconds
    )


def _sae_settings(config: AuditConfig, architecture: str, device: object) -> SaeSettings:
    batch_size = None
    if config.sae == "paper" and architecture.startswith(TRANSFORMERS):
        batch_size = PAPER_BATCH_TRANSFORMER
    return SaeSettings(
        variant=config.sae,
        n_latents=config.n_latents,
        n_seeds=config.sae_seeds,
        seed=config.seed,
        device=str(device),
        batch_size=batch_size,
    )


def _assess(seed: int, subject: Subject, sae: TrainedSae, other_seeds: tuple[SeedFeatures, ...]) -> Reliance:
    """Features and thresholds at the head."""
    activations = subject.activations
    return assess_reliance(
        RelianceInputs(
            use=_feature_use(sae, activations),
            dictionary=sae.dictionary,
            audit=Samples(np.asarray(activations.audit.acts), activations.audit.labels, activations.head),
            classes=subject.classes,
            seed=seed,
            other_seeds=tuple(OtherSeed(one.dictionary, one.features, one.alive) for one in other_seeds),
        )
    )


def _seen_by(sae: TrainedSae, activations: Activations) -> SeedFeatures:
    """What another seed takes for each class's dominant feature, and what it needs to edit with it."""
    use = _feature_use(sae, activations)
    return SeedFeatures(use.dominant, sae.dictionary, use.mean_codes, use.alive)


def _feature_use(sae: TrainedSae, activations: Activations) -> FeatureUse:
    """How the classes use the latents on the fit split, block by block."""
    fit = activations.fit
    starts = range(0, len(fit.labels), CHUNK_ROWS)
    blocks = ((sae.encode(fit.acts[i : i + CHUNK_ROWS]), fit.labels[i : i + CHUNK_ROWS]) for i in starts)
    return describe_blocks(blocks, sae.dictionary, activations.head)


def _fragility(reliance: Reliance, head: LinearHead) -> np.ndarray:
    """Flip medians by output, nan where not reached: the order in which classes are compared if not all can be."""
    medians = np.full(head.n_classes, np.nan)
    for one in reliance.classes:
        if one.alpha_hat.flip.median is not None:
            medians[one.index] = one.alpha_hat.flip.median
    return medians


def _find_concepts(subject: Subject) -> Concepts:
    """Classes and attributes of the pictures to fit that could be read."""
    fit = subject.activations.fit
    return gather_concepts(subject.data_root, fit.paths, fit.labels, subject.classes, subject.attributes)


def _measure_fidelity(sae: TrainedSae, activations: Activations) -> SaeFidelity:
    """The autoencoder on the audit split, which had no part in choosing it."""
    audit = activations.audit
    quality = measure_quality(sae, np.asarray(audit.acts), audit.labels, activations.head)
    return SaeFidelity(quality.r2, quality.accuracy_original, quality.accuracy_reconstructed, quality.logit_kl)


def _comparison_inputs(
    activations: Activations, outcome: SaeOutcome, reliance: Reliance, classes: tuple[str, ...]
) -> ComparisonInputs:
    return ComparisonInputs(
        head=activations.head,
        class_names=classes,
        features=reliance.use.dominant,
        dictionary=outcome.sae.dictionary,
        mean_codes=reliance.use.mean_codes,
        alive=reliance.use.alive,
        fit_acts=activations.fit.acts,
        fit_labels=activations.fit.labels,
        audit_acts=activations.audit.acts,
        audit_labels=activations.audit.labels,
    )


def _stress(
    seed: int,
    compared: ComparisonInputs,
    comparison: Comparison,
    reliance: Reliance,
    coded: tuple[np.ndarray, np.ndarray, tuple[str, ...]],
) -> StressOutcome:
    """`coded`: the encoder's rows (m, d), codes (n, m) and paths of the audit split."""
    encoder, codes, paths = coded
    inputs = StressInputs(
        compared=compared,
        results=comparison.results,
        classes=reliance.classes,
        features=reliance.features,
        encoder=encoder,
        codes=codes,
        paths=paths,
        seed=seed,
    )
    return stress_edits(inputs)


def write_audit(audit: Audit, config: AuditConfig) -> None:
    """Write the result files into `config.out`, all or nothing.

    Raises:
        OutputError: the folder cannot be written, or the report cannot be rendered.
    """
    from salve_audit.report import render_html, render_pdf
    from salve_audit.samples_file import samples_table, write_samples

    assert config.out is not None, "write_audit needs a folder"
    result = audit.result
    text = result.to_json().encode("utf-8")
    with publishing(Path(config.out)) as stage:
        (stage / "audit.json").write_bytes(text)
        table = samples_table(audit.activations.audit, audit.reliance.samples, result.data.classes)
        write_samples(table, stage / "samples.parquet")
        (stage / "sae.safetensors").write_bytes(audit.sae_file)
        if audit.concepts_file is not None:
            (stage / CONCEPTS_FILE).write_bytes(audit.concepts_file)
        if config.keep_activations:
            _write_activations(audit, stage / "activations.safetensors")
        if "html" in config.format:
            (stage / "report.html").write_text(render_html(result), encoding="utf-8")
        if "pdf" in config.format:
            (stage / "report.pdf").write_bytes(render_pdf(result, text))


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
