"""What an audit found: plain numbers and strings, written to audit.json and read back. Never sees torch.

`AuditResult` mirrors the file key by key. Numbers are finite; ``None`` stands for "not applicable" or, beside a
``share``, for "not reached by half of the samples". All shares and accuracies lie in 0..1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from salve_audit.errors import ResultError
from salve_audit.records import JSON_KEY, from_dict, to_dict

SCHEMA_VERSION = 1
AS_CLASS = {JSON_KEY: "class"}  # `class` is no attribute name in Python


@dataclass(frozen=True)
class Interval:
    """A point value with its 95 % interval; None where a bound is not reached or too thin to be given."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Provenance:
    model_sha256: str
    data_sha256: str
    sae_sha256: str
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    device: str
    trusted_code: bool  # code named by the user was run (--arch FILE.py:FUNCTION)


@dataclass(frozen=True)
class TransformInfo:
    input_size: tuple[int, ...]  # (channels, height, width)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    source: str  # "checkpoint" or "architecture default (timm)"


@dataclass(frozen=True)
class ModelInfo:
    name: str  # the checkpoint's file name
    architecture: str
    format: str
    head: str  # module path of the final linear layer
    head_error: float | None  # relative error of head(acts) against the model's logits on a real batch; None: no model
    d: int
    n_classes: int
    n_parameters: int
    transform: TransformInfo | None  # None: activations were given, no pictures


@dataclass(frozen=True)
class SkippedFile:
    path: str
    reason: str


@dataclass(frozen=True)
class DataInfo:
    root: str
    layout: str  # how fit and audit splits came about, in words
    n_fit: int
    n_audit: int
    n_skipped: int
    skipped: tuple[SkippedFile, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class SaePoint:
    """One trained autoencoder on the sparsity path, measured on the validation part of the fit split."""

    variant: str
    n_latents: int
    sparsity: float  # lambda or k
    r2: float
    l0: float
    n_dead: int
    accuracy: float  # with reconstructed activations
    accuracy_kept: float  # the same over the original accuracy
    logit_kl: float
    mean_abs_code: float
    chosen: bool


@dataclass(frozen=True)
class Stability:
    n_seeds: int
    matched_cosine: float  # mean |cosine| of Hungarian-matched dictionary rows
    share_matched: float  # share of matched rows with |cosine| > 0.7
    subspace_overlap: float


@dataclass(frozen=True)
class SaeFidelity:
    """What reconstructed activations keep on one set of samples."""

    r2: float
    accuracy_original: float
    accuracy_reconstructed: float
    logit_kl: float


@dataclass(frozen=True)
class SaeInfo:
    variant: str
    n_latents: int
    sparsity: float
    r2: float
    l0: float
    n_dead: int
    accuracy_original: float
    accuracy_reconstructed: float
    logit_kl: float
    satisfied: bool  # does the chosen point keep >= 99 % of accuracy at R2 >= 0.9?
    stability: Stability | None
    frontier: tuple[SaePoint, ...]
    on_audit: SaeFidelity | None = None  # the audit split, which chose nothing; the fields above: held-out fit part


@dataclass(frozen=True)
class FlipSummary:
    """Kaplan-Meier median over a class's initially correct samples with its 95 % interval."""

    median: float | None
    low: float | None
    high: float | None
    share: float  # share of samples that flip at any strength


@dataclass(frozen=True)
class AlphaSummary:
    analytical: float | None  # median over samples for which it is defined
    numerical: float | None  # Kaplan-Meier median; erased and never are right-censored
    flip: FlipSummary
    empirical: float | None  # None: accuracy stays above 50 % at every strength


@dataclass(frozen=True)
class StatusCounts:
    crossed: int
    erased: int
    never: int
    not_applicable: int


@dataclass(frozen=True)
class Curve:
    """Accuracies while the class's dominant feature is suppressed more and more."""

    alpha_hat: tuple[float, ...]
    accuracy: tuple[float, ...]
    others: tuple[float, ...]  # mean accuracy of the other classes
    non_monotone: bool  # the class's own accuracy rises again by more than 0.02 somewhere


@dataclass(frozen=True)
class Distribution:
    """Empirical quantiles of one per-sample threshold in units of alpha_hat; None: that quantile is not reached."""

    threshold: str  # "analytical" | "numerical" | "flip"
    n: int
    quantiles: tuple[float | None, ...]  # at 0, 0.05, 0.1, ..., 1


@dataclass(frozen=True)
class NullControl:
    """The flip median of the feature beside the same with its coupling permuted, and with other latents."""

    n_samples: int  # correct samples of the class that were used
    observed: float | None
    permuted_median: float | None  # median over draws
    permuted_p: float | None  # (1 + draws at most the observed) / (1 + draws)
    random_median: float | None
    random_p: float | None
    n_draws: int  # permutations
    n_random: int = 0  # other latents that fire and are dominant for no class; 0: that null does not exist here


@dataclass(frozen=True)
class ClassReliance:
    name: str
    index: int
    n: int
    n_correct: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    thin: bool
    dominant_feature: int
    stable: bool | None
    top_features: tuple[int, ...]  # by |mean code| x norm, the dominant one first
    top_attribution: tuple[int, ...]  # by contribution to the class's logit above the mean logit
    alpha: AlphaSummary
    alpha_hat: AlphaSummary
    status: StatusCounts
    analytical_below_numerical: float | None  # share of samples where both exist
    clamped_share: float | None  # share of 1 - alpha c below 0 over samples and coordinates, at each sample's flip
    enhance: FlipSummary  # alpha_hat at which samples not predicted as this class become so
    edit_size_at_flip: float | None  # ||W' - W||_F / ||W||_F
    redundancy: int | None  # features to suppress before accuracy is at most 50 %; None: not within the limit
    redundancy_limit: int
    null_p: float | None  # the larger p of the null controls that could be drawn (see `null`)
    null: NullControl
    differs_from: tuple[str, ...]  # classes whose flip distribution differs (log-rank, corrected, p < 0.05)
    curve: Curve
    distributions: tuple[Distribution, ...]
    flags: tuple[str, ...]  # "thin", "unstable", "erased", "non-monotone", "wrong from the start", "not beyond null"


@dataclass(frozen=True)
class FeatureEffect:
    """Change of every class's accuracy (in model output order) when one feature is scaled with alpha_hat."""

    alpha_hat: float
    accuracy_change: tuple[float | None, ...]  # None: the class has no audit samples


@dataclass(frozen=True)
class FeatureEffects:
    suppress: tuple[FeatureEffect, ...]
    enhance: tuple[FeatureEffect, ...]


@dataclass(frozen=True)
class FeatureInfo:
    index: int
    norm: float  # of the dictionary row in the model's units (1 in canonical form)
    coupling_max: float
    classes: tuple[str, ...]  # classes on which |mean code| is at least half of its maximum over classes
    affected: tuple[str, ...]  # classes whose accuracy moves beyond its interval when the feature is suppressed
    dominant_for: tuple[str, ...]
    cross_class: bool
    entangled: bool  # suppression moves two classes significantly in opposite directions
    mean_code: tuple[float | None, ...]  # per class, on the fit split
    effect: FeatureEffects


@dataclass(frozen=True)
class InterventionResult:
    """One method on one class, brought to a target accuracy of that class."""

    method: str
    class_name: str = field(metadata=AS_CLASS)
    feature: int | None
    strength: float
    target_accuracy: float
    reached_accuracy: float
    reached: bool
    others_accuracy: float
    others_worst: float
    kl: float  # nats, on the other classes' samples
    agreement: float  # with the original predictions on the other classes' samples
    weight_change: float  # ||W' - W||_F / ||W||_F
    area: float  # under (target suppressed, others kept), 1 is best
    low: float  # 95 % bootstrap interval of others_accuracy
    high: float
    bias_change: float = 0.0  # ||b' - b|| / ||b||, 0 where there is no bias


@dataclass(frozen=True)
class MethodSummary:
    """One method over all classes at one target; intervals from one bootstrap over samples that all methods share."""

    method: str
    target_accuracy: float
    n_classes: int
    n_reached: int
    others_accuracy: float  # mean over all classes, at the best strength where the target is not reached
    low: float
    high: float
    area: float  # mean over all classes
    n_common: int  # classes in which this method and row scaling both reach the target
    difference: float | None  # of others' accuracy to row scaling's over those classes, paired; None: none in common
    difference_low: float | None
    difference_high: float | None


@dataclass(frozen=True)
class MethodSpread:
    """Spread of others_accuracy over the keys of a method that has a free choice (ROME)."""

    method: str
    class_name: str = field(metadata=AS_CLASS)
    target_accuracy: float
    n_keys: int
    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Rule:
    rule: str
    class_name: str = field(metadata=AS_CLASS)
    value: float | None
    low: float | None
    high: float | None
    limit: float
    outcome: str  # "pass" | "fail" | "undecided" | "thin"


@dataclass(frozen=True)
class Verdict:
    passed: bool | None  # None: no policy was given, or no class could be judged
    policy: str | None
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class PlantedClass:
    """Demo world: what was planted for a class beside what the audit found."""

    class_name: str = field(metadata=AS_CLASS)
    cues: tuple[str, ...]
    true_drop: Mapping[str, float]  # accuracy lost when that cue is really left out of the picture
    largest_drop: float
    dominant_feature: int
    dominant_auroc: float  # does the dominant latent fire on its class?


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman correlation over the classes of one statistic with the true largest drop."""

    statistic: str
    rho: float | None
    p: float | None
    n: int


@dataclass(frozen=True)
class DemoTruth:
    classes: tuple[PlantedClass, ...]
    correlations: tuple[RankCorrelation, ...]


@dataclass(frozen=True)
class AuditResult:
    """Everything an audit found; see the module docstring."""

    tool_version: str
    created: str  # ISO 8601, UTC
    seed: int
    provenance: Provenance
    model: ModelInfo
    data: DataInfo
    sae: SaeInfo
    classes: tuple[ClassReliance, ...]  # those with audit samples
    features: tuple[FeatureInfo, ...]
    interventions: tuple[InterventionResult, ...]
    intervention_spread: tuple[MethodSpread, ...]
    verdict: Verdict
    intervention_summary: tuple[MethodSummary, ...] = ()
    notes: tuple[str, ...] = ()  # findings and warnings in plain words, unflattering ones included
    demo: DemoTruth | None = None
    schema_version: int = field(default=SCHEMA_VERSION)

    def to_json(self) -> str:
        """The text of audit.json: sorted keys, finite numbers, a newline at the end."""
        return json.dumps(to_dict(self), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def parse_audit(text: str, source: str = "audit.json") -> AuditResult:
    """The result in the text of an audit.json.

    Raises:
        ResultError: not JSON, another schema version, or a field that does not fit; names `source`.
    """
    try:
        value = json.loads(text)
        version = value.get("schema_version") if isinstance(value, dict) else None
        if version != SCHEMA_VERSION:
            raise ResultError(f"schema_version is {version!r}, this version reads {SCHEMA_VERSION}")
        return from_dict(AuditResult, value)
    except json.JSONDecodeError as error:
        raise ResultError(source, f"not JSON ({error})") from error
    except ResultError as error:
        raise ResultError(source, str(error), hint="was it written by another version of salve-audit?") from error


def load_audit(path: str | Path) -> AuditResult:
    """The result saved in `path`, an audit.json or the folder that holds one.

    Raises:
        ResultError: there is no such file or it does not fit the schema.
    """
    file = Path(path)
    file = file / "audit.json" if file.is_dir() else file
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ResultError(str(file), reason or "cannot be read") from error
    return parse_audit(text, str(file))
