"""The result of an audit: plain numbers and strings, written to audit.json and read back. Never sees torch.

`AuditResult` mirrors the file key by key. Numbers are finite; ``None`` stands for "not applicable" or, beside a
``share``, for "not reached by half of the samples". All shares and accuracies lie in 0..1.
"""

from salve_audit.results.audit import AuditResult, load_audit, parse_audit
from salve_audit.results.autoencoder import SaeFidelity, SaeInfo, SaePoint, Stability
from salve_audit.results.classes import (
    AlphaSummary,
    ClassReliance,
    Curve,
    Distribution,
    FlipSummary,
    NullControl,
    SeedCurve,
    SeedSpread,
    StatusCounts,
)
from salve_audit.results.data_check import DataCheck, DataCue, DuplicatePair
from salve_audit.results.decisions import Decision
from salve_audit.results.deep import DeepComparison, DeepResult, DeepScope
from salve_audit.results.demo import DemoTruth, PlantedClass, RankCorrelation
from salve_audit.results.evidence import (
    Concept,
    ConceptEffect,
    ConceptImage,
    ConceptInsertion,
    ConceptRemoval,
    EvidenceInfo,
    FactorEffect,
    ImageReliance,
    InsertedImage,
    OcclusionCheck,
)
from salve_audit.results.features import (
    ClassSweep,
    FeatureEffect,
    FeatureEffects,
    FeatureInfo,
    FeatureSweep,
    Opposition,
    TopImage,
)
from salve_audit.results.looks import ConceptLook, ConceptProperties
from salve_audit.results.methods import InterventionResult, MethodSpread, MethodSummary
from salve_audit.results.seeing import (
    ClassFragile,
    FeatureGallery,
    FeatureImage,
    FragileImage,
    HeatMap,
    Seeing,
    SyntheticImage,
    Thumbnail,
    nothing_seen,
)
from salve_audit.results.stress import (
    ClassRecovery,
    Composition,
    CompositionChain,
    CompositionOrder,
    CompositionStep,
    EnhancementCurve,
    Recovery,
    RecoveryShare,
    Stress,
)
from salve_audit.results.subject import ClassMapping, ClassPair, DataInfo, ModelInfo, Provenance, SkippedFile
from salve_audit.results.suppression import Confusion, Suppression, SuppressionTrace
from salve_audit.results.transform import TransformSpec
from salve_audit.results.upgrade import SCHEMA_VERSION
from salve_audit.results.verdict import Rule, Verdict

__all__ = [
    "SCHEMA_VERSION",
    "AlphaSummary",
    "AuditResult",
    "ClassFragile",
    "ClassMapping",
    "ClassPair",
    "ClassRecovery",
    "ClassReliance",
    "ClassSweep",
    "Composition",
    "CompositionChain",
    "CompositionOrder",
    "CompositionStep",
    "Concept",
    "ConceptEffect",
    "ConceptImage",
    "ConceptInsertion",
    "ConceptLook",
    "ConceptProperties",
    "ConceptRemoval",
    "Confusion",
    "Curve",
    "DataCheck",
    "DataCue",
    "DataInfo",
    "Decision",
    "DeepComparison",
    "DeepResult",
    "DeepScope",
    "DemoTruth",
    "Distribution",
    "DuplicatePair",
    "EnhancementCurve",
    "EvidenceInfo",
    "FactorEffect",
    "FeatureEffect",
    "FeatureEffects",
    "FeatureGallery",
    "FeatureImage",
    "FeatureInfo",
    "FeatureSweep",
    "FlipSummary",
    "FragileImage",
    "HeatMap",
    "ImageReliance",
    "InsertedImage",
    "InterventionResult",
    "MethodSpread",
    "MethodSummary",
    "ModelInfo",
    "NullControl",
    "OcclusionCheck",
    "Opposition",
    "PlantedClass",
    "Provenance",
    "RankCorrelation",
    "Recovery",
    "RecoveryShare",
    "Rule",
    "SaeFidelity",
    "SaeInfo",
    "SaePoint",
    "SeedCurve",
    "SeedSpread",
    "Seeing",
    "SkippedFile",
    "Stability",
    "StatusCounts",
    "Stress",
    "Suppression",
    "SuppressionTrace",
    "SyntheticImage",
    "Thumbnail",
    "TopImage",
    "TransformSpec",
    "Verdict",
    "load_audit",
    "nothing_seen",
    "parse_audit",
]
