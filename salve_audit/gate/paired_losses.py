"""A loss against a baseline, image by image: a paired bootstrap over the images that both audits have."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING

from salve_audit.gate.compared import Compared
from salve_audit.gate.estimates import Estimate, allow_for, unjudged
from salve_audit.gate.samples import SAMPLES
from salve_audit.results import ClassReliance

if TYPE_CHECKING:
    import numpy as np

N_DRAWS = 1000
PAIRED = ("accuracy", "alpha_hat")
LEAST_PAIRED = 30
UNCHANGED = Estimate(0.0, 0.0, 0.0)  # of one network on the same images


def compare_paired(
    name: str,
    limit: float,
    confidence: float,
    compared: Compared,
    classes: tuple[ClassReliance, ClassReliance],
    seed: int,
) -> tuple[Estimate, float]:
    """A class's loss of accuracy or of its flip median, with the p-value of a loss of at most the limit.

    Args:
        name: of the measure.
        limit: of the loss.
        confidence: of the interval.
        compared: both audits.
        classes: the class in the old one and in the new one.
        seed: of the draws.
    """
    pairs, class_name = compared.pairs, classes[1].name
    if pairs is None:
        return unjudged(f"{SAMPLES} of both audits is needed, and is not there"), 1.0
    import numpy as np

    n = pairs.count(class_name)
    if n < LEAST_PAIRED:
        return unjudged(f"{n} images are in both audits, {LEAST_PAIRED} are needed", thin=True, n=n), 1.0
    values = pairs.correct(class_name) if name == "accuracy" else pairs.flips(class_name)
    is_unchanged = compared.is_same_network and np.array_equal(*values, equal_nan=True)
    if name == "accuracy":
        return (replace(UNCHANGED, n=n), 1.0) if is_unchanged else _compare_shares(*values, limit, confidence, seed)
    point, draws = draw_medians(values, classes, np.random.default_rng((seed, classes[1].index)))
    if not math.isfinite(point):
        return unjudged("a flip median is not reached in one of the audits", thin=True, n=n), 1.0
    return (replace(UNCHANGED, n=n), 1.0) if is_unchanged else _summarise(point, draws, limit, confidence, n)


def compare_overall(limit: float, confidence: float, compared: Compared) -> Estimate:
    """The loss of accuracy over all images that both audits have."""
    pairs = compared.pairs
    if pairs is None or not pairs.rows:
        return unjudged(f"no image is in both audits, or {SAMPLES} is not there")
    import numpy as np

    old, new = (np.concatenate(part) for part in zip(*map(pairs.correct, pairs.rows), strict=True))
    if compared.is_same_network and np.array_equal(old, new):
        return replace(UNCHANGED, n=len(old))
    return _compare_shares(old, new, limit, confidence, 0)[0]


def pair_lost(
    estimate: Estimate, lost: tuple[np.ndarray, np.ndarray], limit: float, confidence: float
) -> tuple[Estimate, float]:
    """The rise of image reliance on the images that both audits examined, with its p-value.

    Args:
        estimate: of the same rise, from the intervals of both audits.
        lost: (m,) each; what the strongest removal did to each image in the old audit and in the new one, 0 to 1.
        limit: of the rise.
        confidence: of the interval; images that were examined more than once need more.
    """
    import numpy as np

    (old, new), confidence = lost, allow_for(confidence, estimate.looks)
    if all(((part == 0) | (part == 1)).all() for part in lost):
        paired, p = _compare_shares(old == 0, new == 0, limit, confidence, 0)
    else:  # several draws of one image
        picks = np.random.default_rng(0).integers(len(old), size=(N_DRAWS, len(old)))
        drawn = (new - old)[picks].mean(1)
        paired, p = _summarise(float((new - old).mean()), drawn, limit, confidence, len(old))
    return replace(paired, doubt=estimate.doubt, looks=estimate.looks), min(1.0, estimate.looks * p)


def _summarise(point: float, draws: np.ndarray, limit: float, confidence: float, n: int) -> tuple[Estimate, float]:
    import numpy as np

    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2], method="closest_observation")
    p = (1 + int((draws <= limit).sum())) / (1 + len(draws))
    spread = float(np.std(draws[np.isfinite(draws)]))
    if p * (1 + len(draws)) < 2 and spread > 0:  # beyond what the draws resolve, the tail is taken for a normal one
        p = min(p, 1 - NormalDist().cdf((point - limit) / spread))
    return Estimate(point, min(float(low), point), max(float(high), point), n), p


def _compare_shares(
    old: np.ndarray, new: np.ndarray, limit: float, confidence: float, seed: int
) -> tuple[Estimate, float]:
    """The loss of a share of images: what counts of n pairs is how many got worse and how many better."""
    worse, better = int((old & ~new).sum()), int((~old & new).sum())
    return _summarise_counts(len(old), worse, better, limit, confidence, seed)


@functools.lru_cache(maxsize=4096)
def _summarise_counts(
    n: int, worse: int, better: int, limit: float, confidence: float, seed: int
) -> tuple[Estimate, float]:
    """As `_summarise`; of many classes many have the same counts."""
    import numpy as np

    return _summarise(*draw_share(n, worse, better, np.random.default_rng(seed)), limit, confidence, n)


def draw_share(n: int, worse: int, better: int, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """The loss of a share of n images, and its bootstrap."""
    smoothed = [worse + 0.5, better + 0.5, n - worse - better + 0.5]  # a count of 0 in the sample is not 0 for certain
    counts = rng.multinomial(n, [part / sum(smoothed) for part in smoothed], size=N_DRAWS)
    return (worse - better) / n, (counts[:, 0] - counts[:, 1]) / n


def draw_medians(
    flips: tuple[np.ndarray, np.ndarray], classes: tuple[ClassReliance, ClassReliance], rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    """The share of the flip median that is lost, and its bootstrap over images and then seeds.

    Only images with a threshold in both audits take part. All censoring lies beyond the last threshold, so the
    Kaplan-Meier median of a sample is its order statistic of rank ⌈n/2⌉.
    """
    import numpy as np

    both = ~np.isnan(flips[0]) & ~np.isnan(flips[1])
    values = np.stack([part[both] for part in flips])
    n = values.shape[1]
    rank = (n + 1) // 2 - 1
    old, new = np.partition(values, rank, axis=1)[:, rank] if n else (math.nan, math.nan)
    if not (np.isfinite(old) and np.isfinite(new) and old > 0):
        return math.nan, np.empty(0)
    picks = rng.integers(n, size=(N_DRAWS, n))
    drawn = [np.partition(part[picks], rank, axis=1)[:, rank] for part in values]
    shifts = [_draw_seeds(class_info, rng) for class_info in classes]
    with np.errstate(invalid="ignore"):
        lost = 1 - drawn[1] * shifts[1] / (drawn[0] * shifts[0])
    return float(1 - new / old), np.nan_to_num(lost, nan=0.0, neginf=-np.inf, posinf=np.inf)


def _draw_seeds(class_info: ClassReliance, rng: np.random.Generator) -> np.ndarray:
    """Factors by which another seed of the autoencoder changes the flip median; 1 where one was trained."""
    import numpy as np

    medians = () if class_info.seeds is None else class_info.seeds.medians
    reached = [median for median in medians if median]
    if len(reached) < 2 or not medians[0]:
        return np.ones(N_DRAWS)
    return rng.choice(np.array(reached), size=N_DRAWS) / medians[0]
