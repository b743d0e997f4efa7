"""From what the stages found to one AuditResult."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

from salve_audit import __version__
from salve_audit.activations.store import Activations
from salve_audit.config import AuditConfig, described
from salve_audit.findings import find_notes
from salve_audit.gate.verdict import judge_flips
from salve_audit.inputs.classifier import Classifier
from salve_audit.inputs.imageset import ImageSet
from salve_audit.interventions.comparison import Comparison
from salve_audit.reliance.assess import Reliance
from salve_audit.results import (
    AuditResult,
    DataInfo,
    ModelInfo,
    Provenance,
    SaeInfo,
    SkippedFile,
    TransformInfo,
)

LIBRARIES = ("torch", "timm", "numpy", "scipy", "pandas", "pillow")


@dataclass(frozen=True)
class StageResults:
    """What the stages hand over."""

    classifier: Classifier
    images: ImageSet
    activations: Activations
    sae: SaeInfo
    sae_sha256: str
    reliance: Reliance
    comparison: Comparison
    device: str


def assemble(config: AuditConfig, stages: StageResults) -> AuditResult:
    """The result of an audit, verdict included."""
    classes = stages.reliance.classes
    return AuditResult(
        tool_version=__version__,
        created=_now(),
        seed=config.seed,
        provenance=_provenance(config, stages),
        model=_model(stages),
        data=_data(stages),
        sae=stages.sae,
        classes=classes,
        features=stages.reliance.features,
        interventions=stages.comparison.results,
        intervention_spread=stages.comparison.spreads,
        verdict=judge_flips(classes, config.fail_under),
        notes=(*stages.classifier.notes, *find_notes(classes, stages.sae, stages.comparison.results)),
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
        model_sha256=stages.classifier.sha256,
        data_sha256=stages.activations.data_sha256,
        sae_sha256=stages.sae_sha256,
        config=described(config),
        versions=_versions(),
        device=stages.device,
        trusted_code=stages.classifier.trusted_code,
    )


def _versions() -> Mapping[str, str]:
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}}


def _model(stages: StageResults) -> ModelInfo:
    classifier, head, spec = stages.classifier, stages.activations.head, stages.classifier.transform
    return ModelInfo(
        name=classifier.path.name,
        architecture=classifier.architecture,
        format=classifier.format,
        head=head.module,
        head_error=stages.activations.head_error,
        d=head.d,
        n_classes=head.n_classes,
        n_parameters=sum(p.numel() for p in classifier.model.parameters()),
        transform=TransformInfo(
            tuple(spec.input_size), tuple(spec.mean), tuple(spec.std), spec.interpolation, spec.crop_pct, spec.source
        ),
    )


def _data(stages: StageResults) -> DataInfo:
    activations, images = stages.activations, stages.images
    skipped = tuple(SkippedFile(one.path, one.reason) for one in activations.skipped)
    return DataInfo(
        root=images.root.name,
        layout=images.layout,
        n_fit=len(activations.fit.labels),
        n_audit=len(activations.audit.labels),
        n_skipped=len(skipped),
        skipped=skipped,
        classes=images.classes,
    )
