"""Records of each class: thresholds, controls, stability and image reliance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from salve_audit.results.evidence import ImageReliance


@dataclass(frozen=True)
class FlipSummary:
    """Kaplan-Meier median over a class's initially correct samples with its 95 % interval."""

    median: float | None
    low: float | None
    high: float | None
    share: float  # share of samples that flip at any strength


@dataclass(frozen=True)
class AlphaSummary:
    """Thresholds of a class: medians over its samples, and the empirical one."""

    analytical: float | None  # median over samples for which it is defined
    numerical: float | None  # Kaplan-Meier median; erased and never are right-censored
    flip: FlipSummary
    empirical: float | None  # None: accuracy stays above 50 % at every strength


@dataclass(frozen=True)
class StatusCounts:
    """Samples by the status of their numerical threshold."""

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
class SeedCurve:
    """Accuracy of the class over strengths: mean and standard deviation over seeds of the autoencoder."""

    alpha_hat: tuple[float, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]


@dataclass(frozen=True)
class SeedSpread:
    """Results of audits with other seeds of the autoencoder, each with its own dominant feature of the class."""

    n_seeds: int
    medians: tuple[float | None, ...]  # flip medians in alpha_hat, the audited seed first; None: not reached
    low: float | None  # 95 % interval of the flip median over samples and seeds: what the verdict judges
    high: float | None
    curve: SeedCurve | None  # None: left out, as for all but the most fragile of very many classes


@dataclass(frozen=True)
class ClassReliance:
    """All that was measured of one class."""

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
    seeds: SeedSpread | None  # None: a single seed was trained
    top_features: tuple[int, ...]  # by |mean code| x norm, the dominant one first
    top_attribution: tuple[int, ...]  # by contribution to the class's logit above the mean logit
    alpha: AlphaSummary
    alpha_hat: AlphaSummary
    status: StatusCounts
    analytical_below_numerical: float | None  # share of samples where both exist
    clamped_share: float | None  # share of 1 - alpha c below 0 over samples and coordinates, at each sample's flip
    enhance: FlipSummary  # alpha_hat at which samples not predicted as this class become so
    edit_size_at_flip: float | None  # ||W' - W||_F / ||W||_F
    feature_redundancy: int | None  # features to suppress before accuracy is at most 50 %; None: not within the limit
    feature_redundancy_limit: int
    null_p: float | None  # the larger p of the null controls that could be drawn (see `null`)
    null: NullControl
    differs_from: tuple[
        str, ...
    ]  # classes whose flip distribution differs (log-rank, corrected, p < 0.05), 100 at most
    curve: Curve
    distributions: tuple[Distribution, ...]
    flags: tuple[str, ...]  # "thin", "unstable", "erased", "non-monotone", "wrong from the start", "not beyond null"
    image_reliance: ImageReliance | None = None  # None: not measured

    @property
    def judged_interval(self) -> tuple[float | None, float | None]:
        """95 % interval of the alpha_hat flip median: over samples and, where several were trained, over seeds."""
        flip = self.alpha_hat.flip
        return (flip.low, flip.high) if self.seeds is None else (self.seeds.low, self.seeds.high)

    def plot(self, ax: Any = None) -> Any:
        """A chart of accuracy over the strength of the suppression, on `ax` or new axes, which are returned.

        Raises:
            UsageError: matplotlib (``pip install 'salve-audit[plot]'``) is not installed.
        """
        from salve_audit.results.plot import plot_class

        return plot_class(self, ax)
