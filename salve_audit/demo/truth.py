"""The cues that a network depends on in a drawn world, and how well each statistic of the audit ranks them.

The truth needs no model of the network: each cue is left out of the image and the accuracy measured again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from salve_audit.demo.images import ImageKey, class_keys, draw_many
from salve_audit.demo.world import World
from salve_audit.results import AuditResult, ClassReliance, DemoTruth, PlantedClass, RankCorrelation

ALL_TOGETHER = "all together"
EXACT_LIMIT = 8  # up to so many classes the p-value goes through all orderings (40,320)

Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class TrueDrops:
    """Accuracy that one class loses when its cues are left out of its images.

    Attributes:
        class_name: of the class.
        n: images measured.
        accuracy: with all cues, in 0..1.
        drops: per planted cue, accuracy minus accuracy without it; negative where leaving it out helps.
        drop_of_all: the same without any of the class's cues; None for a class without cues.
    """

    class_name: str
    n: int
    accuracy: float
    drops: Mapping[str, float]
    drop_of_all: float | None

    @property
    def largest(self) -> float:
        """Largest drop of a single cue; 0 for a class without cues."""
        return max(self.drops.values(), default=0.0)


def measure_truth(
    world: World, predict: Predict, seed: int, n_per_class: int, split: str = "val"
) -> tuple[TrueDrops, ...]:
    """The drops of every class on the first `n_per_class` images of a split.

    Args:
        predict: images (n, size, size, 3) uint8 to predicted class indices (n,).
    """
    return tuple(
        _measure_class(world, predict, label, class_keys(split, label, n_per_class, seed))
        for label in range(len(world.classes))
    )


def _measure_class(world: World, predict: Predict, label: int, keys: Sequence[ImageKey]) -> TrueDrops:
    cues = tuple(planting.cue for planting in world.classes[label].cues)

    def count(*without: str) -> int:
        return int((predict(draw_many(world, keys, without)) == label).sum())

    n_right, n = count(), len(keys)
    return TrueDrops(
        class_name=world.classes[label].name,
        n=n,
        accuracy=n_right / n,
        drops={cue: (n_right - count(cue)) / n for cue in cues},
        drop_of_all=(n_right - count(*cues)) / n if cues else None,
    )


def compute_auroc(score: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """Probability that a positive sample scores above a negative one, ties counted half.

    Raises:
        ValueError: there are no positives, or no negatives.
    """
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        raise ValueError(f"{n_positive} positive and {n_negative} negative samples")
    ranks = stats.rankdata(score)
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def compare_with_truth(result: AuditResult, truth: Sequence[TrueDrops], firing: Sequence[float]) -> DemoTruth:
    """Compare what was planted with what the audit found.

    Correlations are over the classes that have a cue at all. Of a statistic that is None, "not reached at any
    strength" (flip, numerical, empirical, edit size, feature redundancy) takes the worst rank, above all values and
    tied among its kind; where None says "not defined" (analytical, not measured in the image) the class is left
    out, and n says so.

    Args:
        truth: one per class, in any order.
        firing: for each of them, AUROC of the dominant latent's code on the class's images against all others.
    """
    by_class = {record.name: record for record in result.classes}
    assert set(by_class) == {true.class_name for true in truth}, "the audit and the truth are of different worlds"
    planted = tuple(
        _describe(true, by_class[true.class_name], auroc) for true, auroc in zip(truth, firing, strict=True)
    )
    caused = [true for true in truth if true.drops]
    drops = [true.largest for true in caused]
    rows = [_statistics(by_class[true.class_name]) for true in caused]
    names = rows[0] if rows else ()
    return DemoTruth(planted, tuple(correlate(name, [row[name] for row in rows], drops) for name in names))


def _describe(truth: TrueDrops, record: ClassReliance, auroc: float) -> PlantedClass:
    drops = dict(truth.drops)
    if truth.drop_of_all is not None and len(drops) > 1:
        drops[ALL_TOGETHER] = truth.drop_of_all
    return PlantedClass(
        class_name=truth.class_name,
        cues=tuple(truth.drops),
        true_drop=drops,
        largest_drop=truth.largest,
        dominant_feature=record.dominant_feature,
        dominant_auroc=auroc,
    )


def _statistics(record: ClassReliance) -> dict[str, float | None]:
    """The statistics to be ranked; infinite where not reached, None where not defined."""

    def reached(value: float | None) -> float:
        return math.inf if value is None else float(value)

    return {
        "alpha_hat_flip": reached(record.alpha_hat.flip.median),
        "alpha_hat_numerical": reached(record.alpha_hat.numerical),
        "alpha_hat_analytical": record.alpha_hat.analytical,
        "alpha_hat_empirical": reached(record.alpha_hat.empirical),
        "edit_size_at_flip": reached(record.edit_size_at_flip),
        "feature_redundancy": reached(record.feature_redundancy),
        "accuracy": record.accuracy,
        **_in_image(record),
    }


def _in_image(record: ClassReliance) -> dict[str, float | None]:
    """Reliance and redundancy in the image, where they were measured."""
    reliance = record.image_reliance
    if reliance is None:
        return {"image_reliance": None, "redundancy": None}
    redundancy = math.inf if reliance.redundancy is None else float(reliance.redundancy)
    return {"image_reliance": reliance.reliance, "redundancy": redundancy}


def correlate(statistic: str, values: Sequence[float | None], drops: Sequence[float]) -> RankCorrelation:
    """Spearman correlation with a two-sided p-value, exact up to `EXACT_LIMIT` classes.

    None among `values` is left out. Fewer than three classes, or a side without any variation, have no correlation.
    """
    pairs = [(value, drop) for value, drop in zip(values, drops, strict=True) if value is not None]
    n = len(pairs)
    if n < 3 or any(len(set(side)) == 1 for side in zip(*pairs, strict=True)):
        return RankCorrelation(statistic, None, None, n)
    x, y = (stats.rankdata(side) for side in zip(*pairs, strict=True))  # (n,) each
    rho, p = (float(value) for value in stats.spearmanr(x, y))
    return RankCorrelation(statistic, rho, _exact_p(x, y) if n <= EXACT_LIMIT else p, n)


def _exact_p(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """Share of all orderings of y whose correlation with x is at least as far from zero."""
    orderings = np.array(list(itertools.permutations(y - y.mean())))  # (n!, n)
    strength = np.abs(orderings @ (x - x.mean()))
    return float((strength >= strength[0] * (1 - 1e-9)).mean())  # the first ordering is the observed one
