"""What single features do to every class."""

from __future__ import annotations

from dataclasses import dataclass


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
