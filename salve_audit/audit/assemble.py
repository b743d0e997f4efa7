"""Assembles the stages' outputs into one AuditResult, with notes on its numbers in plain words.

The notes, unflattering ones included, go into audit.json and the report. The first group checks the claims of the
SALVE paper (arXiv 2512.15938) on this model: every class driven to near zero by its dominant feature while others are
kept, the analytical threshold a lower bound, ROME and steering alike.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from salve_audit import __version__
from salve_audit.audit.subject import Subject
from salve_audit.config import AuditConfig, described
from salve_audit.evidence.stage import EvidenceOutcome
from salve_audit.interventions.comparison import Comparison
from salve_audit.interventions.registry import SALVE
from salve_audit.reliance.assess import Reliance
from salve_audit.results import (
    AuditResult,
    ClassReliance,
    DataCheck,
    DataInfo,
    DeepComparison,
    InterventionResult,
    Provenance,
    SaeInfo,
    Seeing,
    SkippedFile,
)
from salve_audit.results.audit import MANY_CLASSES
from salve_audit.results.verdict import NO_VERDICT
from salve_audit.stress.stage import StressOutcome

NEAR_ZERO = 0.05
MAX_NAMED = 5
DIGITS = 7


def find_notes(
    classes: Sequence[ClassReliance], sae: SaeInfo, interventions: Sequence[InterventionResult]
) -> tuple[str, ...]:
    """Sentences, each with the number that it depends on."""
    occupied = [class_info for class_info in classes if class_info.n]
    return (*_about_suppression(occupied, interventions), *_about_bound(occupied), *_about_sae(sae))


def _about_suppression(classes: Sequence[ClassReliance], interventions: Sequence[InterventionResult]) -> Iterator[str]:
    edits = {
        edit.class_name: edit
        for edit in interventions
        if edit.method == SALVE.key and edit.target_accuracy == NEAR_ZERO
    }
    driven = [class_info for class_info in classes if class_info.name in edits and edits[class_info.name].reached]
    if edits:
        yield (
            f"Suppressing its dominant feature takes {len(driven)} of {len(edits)} classes to 5 % accuracy or below"
            f"{_except([class_info for class_info in classes if class_info.name in edits], driven)}."
        )
    changes = [
        edits[class_info.name].others_accuracy - _mean_of_others(classes, class_info)
        for class_info in driven
        if len(classes) > 1
    ]
    if changes:
        yield (
            f"Where a class first falls to 5 % or below, the other classes' mean accuracy has changed by "
            f"{_points(sum(changes) / len(changes))} on average (worst {_points(min(changes))})."
        )
    shared = _shared_dominants(classes)
    if shared:
        yield f"Classes with the same dominant feature: {'; '.join(shared[:MAX_NAMED])}."


def _mean_of_others(classes: Sequence[ClassReliance], but: ClassReliance) -> float:
    accuracies = [class_info.accuracy for class_info in classes if class_info is not but]
    return sum(accuracies) / len(accuracies)


def _points(change: float) -> str:
    """A change of accuracy in points, with a true minus sign."""
    return f"{100 * change:+.1f} points".replace("-", "\u2212")


def _except(classes: Sequence[ClassReliance], driven: Sequence[ClassReliance]) -> str:
    rest = [class_info.name for class_info in classes if class_info not in driven]
    if not rest:
        return ""
    more = f" and {len(rest) - MAX_NAMED} more" if len(rest) > MAX_NAMED else ""
    return f" (not: {', '.join(rest[:MAX_NAMED])}{more})"


def _shared_dominants(classes: Sequence[ClassReliance]) -> list[str]:
    by_feature: dict[int, list[str]] = {}
    for class_info in classes:
        by_feature.setdefault(class_info.dominant_feature, []).append(class_info.name)
    return [f"{', '.join(names)} (feature {index})" for index, names in by_feature.items() if len(names) > 1]


def _about_bound(classes: Sequence[ClassReliance]) -> Iterator[str]:
    shares = [
        class_info.analytical_below_numerical
        for class_info in classes
        if class_info.analytical_below_numerical is not None
    ]
    if shares:
        yield (
            "The analytical threshold is at most the exact (numerical) one on "
            f"{100 * sum(shares) / len(shares):.1f} % of a class's samples on average over classes (where both exist); "
            "it is not a bound in general."
        )
    erased = [class_info.name for class_info in classes if "erased" in class_info.flags]
    if erased:
        yield (
            f"In {len(erased)} of {len(classes)} classes most logits reach zero only when every weight is gone, so "
            "their numerical threshold is censored; the flip threshold is the one to read."
        )


def _about_sae(sae: SaeInfo) -> Iterator[str]:
    if not sae.satisfied:
        yield (
            f"No autoencoder trained in full kept 99 % of the accuracy at R² of at least {sae.least_r2:.2f}; the one "
            f"used has R² {sae.r2:.3f} and accuracy {sae.accuracy_reconstructed:.3f} against "
            f"{sae.accuracy_original:.3f}. Findings about its features are weaker for it."
        )
    if sae.cut_short:
        yield f"The search for the autoencoder ended early (--sae-budget) without: {', '.join(sae.cut_short)}."
    if sae.stability is not None and sae.stability.share_matched < 0.7:
        yield (
            f"Only {100 * sae.stability.share_matched:.0f} % of the features reappear under another seed "
            "(|cosine| above 0.7): single features other than the stable ones should not be over-read."
        )


LIBRARIES = ("torch", "timm", "numpy", "scipy", "pandas", "pillow")


@dataclass(frozen=True)
class StageResults:
    """The outputs of all stages."""

    subject: Subject
    sae: SaeInfo
    sae_sha256: str
    reliance: Reliance
    comparison: Comparison
    device: str
    stress: StressOutcome
    deep_edits: DeepComparison | None = None
    seeing: Seeing | None = None
    evidence: EvidenceOutcome | None = None
    data_check: DataCheck | None = None


def assemble(config: AuditConfig, stages: StageResults) -> AuditResult:
    """The result of an audit; it is judged later."""
    classes = stages.reliance.classes if stages.evidence is None else stages.evidence.classes
    result = AuditResult(
        tool_version=__version__,
        created=_now(),
        seed=config.seed,
        provenance=_provenance(config, stages),
        model=stages.subject.model,
        data=_data(stages),
        sae=stages.sae,
        classes=classes,
        features=stages.stress.features,
        interventions=stages.comparison.results,
        intervention_spread=stages.comparison.spreads,
        intervention_summary=stages.comparison.summary,
        stress=stages.stress.stress,
        deep_edits=stages.deep_edits,
        suppression=stages.reliance.suppression,
        seeing=stages.seeing,
        evidence=None if stages.evidence is None else stages.evidence.evidence,
        data_check=stages.data_check,
        concepts=() if stages.evidence is None else stages.evidence.concepts,
        verdict=NO_VERDICT,
        notes=(
            *stages.subject.notes,
            *find_notes(classes, stages.sae, stages.comparison.results),
            *stages.comparison.notes,
        ),
    )
    places = tuple(place for place, note in enumerate(result.notes) if note in stages.subject.distrust)
    result = dataclasses.replace(result, distrust=places)
    return result if len(classes) <= MANY_CLASSES else shorten(result)


def shorten(value: Any) -> Any:
    """A record with `DIGITS` digits of every number: audit.json grows with the classes, of which there are many."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, tuple):
        return tuple(shorten(item) for item in value)
    if isinstance(value, Mapping):
        return {key: shorten(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        own = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        return dataclasses.replace(value, **{name: shorten(item) for name, item in own.items()})
    return value


def _now() -> str:
    """The time of the audit, or the one reproducible builds ask for."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.now(datetime.timezone.utc)
    if epoch and epoch.isdigit():
        now = datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc)
    return now.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _provenance(config: AuditConfig, stages: StageResults) -> Provenance:
    precision = stages.subject.activations.precision
    return Provenance(
        model_sha256=stages.subject.model_sha256,
        data_sha256=stages.subject.activations.data_sha256,
        sae_sha256=stages.sae_sha256,
        config=described(config),
        versions=_versions(),
        device=stages.device,
        trusted_code=stages.subject.trusted_code,
        decisions=stages.subject.decisions,
        precision=None if precision is None else precision.name,
        precision_agreement=None if precision is None else precision.agreement,
    )


def _versions() -> Mapping[str, str]:
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}}


def _data(stages: StageResults) -> DataInfo:
    subject, activations = stages.subject, stages.subject.activations
    skipped = tuple(SkippedFile(file.path, file.reason) for file in activations.skipped)
    return DataInfo(
        root=subject.data_root,
        layout=subject.layout,
        n_fit=len(activations.fit.labels),
        n_audit=len(activations.audit.labels),
        n_skipped=len(skipped),
        skipped=skipped,
        classes=subject.classes,
        mapping=subject.mapping,
        sampled_from=subject.sampled_from,
    )
