"""From what the stages found to one AuditResult."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

from salve_audit import __version__
from salve_audit.config import AuditConfig, described, limits_of
from salve_audit.depth.stage import DepthOutcome
from salve_audit.findings import find_notes
from salve_audit.gate.verdict import judge
from salve_audit.interventions.comparison import Comparison
from salve_audit.reliance.assess import Reliance
from salve_audit.results import (
    AuditResult,
    DataInfo,
    DeepComparison,
    Provenance,
    SaeInfo,
    Seeing,
    SkippedFile,
)
from salve_audit.stress import StressOutcome
from salve_audit.subject import Subject

LIBRARIES = ("torch", "timm", "numpy", "scipy", "pandas", "pillow")


@dataclass(frozen=True)
class StageResults:
    """What the stages hand over."""

    subject: Subject
    sae: SaeInfo
    sae_sha256: str
    reliance: Reliance
    comparison: Comparison
    device: str
    stress: StressOutcome
    deep_edits: DeepComparison | None = None
    seeing: Seeing | None = None
    depth: DepthOutcome | None = None


def assemble(config: AuditConfig, stages: StageResults) -> AuditResult:
    """The result of an audit, verdict included."""
    classes = stages.reliance.classes if stages.depth is None else stages.depth.classes
    return AuditResult(
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
        seeing=stages.seeing,
        depth=None if stages.depth is None else stages.depth.depth,
        concepts=() if stages.depth is None else stages.depth.concepts,
        verdict=judge(classes, limits_of(config)),
        notes=(
            *stages.subject.notes,
            *find_notes(classes, stages.sae, stages.comparison.results),
            *stages.comparison.notes,
        ),
    )


def _now() -> str:
    """The time of the audit, or the one reproducible builds ask for."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.now(datetime.timezone.utc)
    if epoch and epoch.isdigit():
        now = datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc)
    return now.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _provenance(config: AuditConfig, stages: StageResults) -> Provenance:
    return Provenance(
        model_sha256=stages.subject.model_sha256,
        data_sha256=stages.subject.activations.data_sha256,
        sae_sha256=stages.sae_sha256,
        config=described(config),
        versions=_versions(),
        device=stages.device,
        trusted_code=stages.subject.trusted_code,
    )


def _versions() -> Mapping[str, str]:
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}}


def _data(stages: StageResults) -> DataInfo:
    subject, activations = stages.subject, stages.subject.activations
    skipped = tuple(SkippedFile(one.path, one.reason) for one in activations.skipped)
    return DataInfo(
        root=subject.data_root,
        layout=subject.layout,
        n_fit=len(activations.fit.labels),
        n_audit=len(activations.audit.labels),
        n_skipped=len(skipped),
        skipped=skipped,
        classes=subject.classes,
        mapping=subject.mapping,
    )
