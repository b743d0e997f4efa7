"""Edits of the final linear layer, one file per method, and their comparison at matched suppression."""

from salve_audit.interventions.affine import AffineHead, Intervention, RankOneEdit
from salve_audit.interventions.comparison import Comparison, ComparisonInputs, ComparisonSettings, SeedFeatures
from salve_audit.interventions.context import EditContext, FitStatistics, compute_fit_statistics, float64_head
from salve_audit.interventions.matched import compare_interventions
from salve_audit.interventions.registry import METHODS

__all__ = [
    "METHODS",
    "AffineHead",
    "Comparison",
    "ComparisonInputs",
    "ComparisonSettings",
    "EditContext",
    "FitStatistics",
    "Intervention",
    "RankOneEdit",
    "SeedFeatures",
    "compare_interventions",
    "compute_fit_statistics",
    "float64_head",
]
