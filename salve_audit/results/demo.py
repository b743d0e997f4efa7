"""The demo world: what was planted beside what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from salve_audit.results.schema import AS_CLASS


@dataclass(frozen=True)
class PlantedClass:
    """Demo world: what was planted for a class beside what the audit found."""

    class_name: str = field(metadata=AS_CLASS)
    cues: tuple[str, ...]
    true_drop: Mapping[str, float]  # accuracy lost when that cue is really left out of the image
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
    """The known truth of the demo world, and how well each statistic ranks it."""

    classes: tuple[PlantedClass, ...]
    correlations: tuple[RankCorrelation, ...]
