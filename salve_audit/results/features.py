"""Records of the effect of single features on every class."""

from __future__ import annotations

from dataclasses import dataclass, field

from salve_audit.results.schema import AS_CLASS


@dataclass(frozen=True)
class FeatureEffect:
    """Change of every class's accuracy (in model output order) when one feature is scaled with alpha_hat."""

    alpha_hat: float
    accuracy_change: tuple[float | None, ...]  # None: the class has no audit samples


@dataclass(frozen=True)
class FeatureEffects:
    """Change of every accuracy when a feature is suppressed, and when it is enhanced."""

    suppress: tuple[FeatureEffect, ...]
    enhance: tuple[FeatureEffect, ...]


@dataclass(frozen=True)
class ClassSweep:
    """Accuracy of one class at each strength of a sweep, with 95 % Wilson intervals."""

    class_name: str = field(metadata=AS_CLASS)
    accuracy: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Opposition:
    """The classes whose accuracy falls and those whose accuracy rises at one strength, beyond their intervals."""

    alpha_hat: float  # negative: suppressed
    falls: tuple[str, ...]
    rises: tuple[str, ...]


@dataclass(frozen=True)
class TopImage:
    """An audit image on which a feature is strongest."""

    path: str
    class_name: str = field(metadata=AS_CLASS)
    code: float


@dataclass(frozen=True)
class FeatureSweep:
    """One cross-class feature suppressed and enhanced over a range of alpha_hat."""

    alpha_hat: tuple[float, ...]  # negative: suppressed, 0: unedited, positive: enhanced
    classes: tuple[ClassSweep, ...]
    moves: tuple[Opposition, ...]  # strengths at which any class moves; tests are paired and corrected for all of them
    images: tuple[TopImage, ...]  # audit images with the largest |code|

    @property
    def opposed(self) -> tuple[Opposition, ...]:
        """Strengths at which some class falls while another rises."""
        return tuple(move for move in self.moves if move.falls and move.rises)


@dataclass(frozen=True)
class FeatureInfo:
    """A feature that is dominant for a class or shared by several."""

    index: int
    norm: float  # of the dictionary row in the model's units (1 in canonical form)
    coupling_max: float
    classes: tuple[str, ...]  # classes on which |mean code| is at least half of its maximum over classes
    affected: tuple[str, ...]  # classes whose accuracy moves beyond its interval when the feature is suppressed
    dominant_for: tuple[str, ...]
    cross_class: bool
    entangled: bool  # suppression moves two classes in opposite directions: anywhere in `sweep`; without it at 1
    mean_code: tuple[float | None, ...]  # per class, on the fit split
    effect: FeatureEffects
    sweep: FeatureSweep | None = None  # None: it concerns one class only, or there were too many to sweep all
