"""The methods by name: one contract and one test suite over all of them.

A method takes an `EditContext` to an `Intervention`, or to None where it has nothing to act on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from salve_audit.interventions import (
    ablation,
    inlp,
    leace,
    mean_difference,
    nulls,
    retraining,
    rome,
    row_scaling,
    salve,
    steering,
)
from salve_audit.interventions.affine import Intervention
from salve_audit.interventions.context import EditContext

METHODS: Mapping[str, Callable[[EditContext], Intervention | None]] = MappingProxyType(
    {
        "salve": salve.suppress,
        "steering": steering.steer,
        "rome": rome.rome,
        "rome-paper": rome.rome_paper,
        "rome-cov": rome.rome_cov,
        "ablation": ablation.ablate,
        "leace": leace.erase,
        "inlp": inlp.project_out,
        "mean-difference": mean_difference.steer_by_means,
        "last-layer-retraining": retraining.retrain,
        "row-scaling": row_scaling.scale_row,
        "null-permuted": nulls.suppress_permuted,
        "null-random": nulls.suppress_random,
    }
)

KEYED = frozenset({"rome", "rome-paper", "rome-cov"})  # depend on the choice of a key: their spread is reported
FEATURED = frozenset({"salve", "steering", "ablation", "null-permuted", "null-random"})  # act on a latent
