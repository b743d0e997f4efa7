"""From evidence regions to findings per class: concepts, image reliance, and redundancy.

Concepts are evidence regions of one class that are the same kind of thing. How alike regions look does not say which
these are: one stripe pattern in two phases is further apart, at any layer, than two cues that always come together.
What does say it is an image that survived the loss of its first region: what it depended on next is something else.
Such images show which differences matter (the directions of the differences within an image) and which regions must not
be grouped. A class without such images has one concept.

Image reliance of a class is the share of its images that are correct and are misclassified when one concept is removed
from them, of the concept for which that is largest: an estimate of the accuracy lost if that thing were not there.
Redundancy is how many regions must be removed, strongest first, until at most half of the images are correct.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from salve_audit.evidence.search import Evidence
from salve_audit.linear_algebra import decompose_rows

LEAST_SHARE = 0.08  # of a class's images with as many regions, for as many concepts
LEAST_IMAGES = 4
N_DIRECTIONS = 6
N_STARTS, N_ROUNDS = 6, 20
N_DRAWS = 1000
THIN = 30  # images below which a class's numbers are marked
LEAST_FOR_INTERVAL = 6


@dataclass(frozen=True)
class Grouping:
    """Concepts of one class, the most frequent first.

    Attributes:
        concept: (n, j) concept of the region in each slot; -1: the slot is empty.
        centres: (g, d) mean unit signature of each concept.
    """

    concept: Int[np.ndarray, "n j"]
    centres: Float[np.ndarray, "g d"]


def group_regions(
    signatures: Float[np.ndarray, "n j d"], counted: Bool[np.ndarray, "n j"], rng: np.random.Generator
) -> Grouping:
    """Group the evidence regions of one class's images into concepts.

    Args:
        signatures: of each region; NaN in empty slots.
        counted: whether the region was something that the class could depend on; see `mark_counted_regions`.
        rng: draws the starting points.
    """
    there = np.isfinite(signatures).all(2)
    units = np.nan_to_num(signatures)
    units = units / np.linalg.norm(units, axis=2, keepdims=True).clip(1e-12)
    n_groups = choose_n_concepts(counted & there)
    if n_groups == 1:
        concept = np.where(there, 0, -1)
    else:
        concept = _cluster(units, counted & there, there, n_groups, rng)
    used, counts = np.unique(concept[there], return_counts=True)
    ranks = {int(group): rank for rank, group in enumerate(used[np.argsort(-counts, kind="stable")])}
    concept = np.vectorize(lambda group: ranks.get(int(group), -1), otypes=[np.int64])(concept)
    centres = np.stack([units[concept == rank].mean(0) for rank in range(len(ranks))]) if ranks else units[:0, 0]
    return Grouping(concept, centres)


def mark_counted_regions(
    clean: Float[np.ndarray, " n"], together: Float[np.ndarray, "n j"], least: float = 0.25
) -> Bool[np.ndarray, "n j"]:
    """Mark regions whose removal took at least the share `least` of the margin left before them.

    The first region of an image always counts.

    Args:
        clean: margins with nothing removed.
        together: margins with each region and all before it removed; NaN in empty slots.
        least: share of the margin left.
    """
    before = np.concatenate([clean[:, None], together[:, :-1]], axis=1)
    with np.errstate(invalid="ignore"):
        counted = before - together >= least * np.abs(before)
    counted[:, 0] = True
    return counted & np.isfinite(together)


def choose_n_concepts(counted: Bool[np.ndarray, "n j"]) -> int:
    """Choose the number of concepts of a class: the most counted regions that enough of its images have at once."""
    n_counted = counted.sum(1)
    needed = max(LEAST_IMAGES, LEAST_SHARE * len(counted))
    return max((j for j in range(2, counted.shape[1] + 1) if (n_counted >= j).sum() >= needed), default=1)


def _cluster(
    units: np.ndarray, counted: np.ndarray, there: np.ndarray, n_groups: int, rng: np.random.Generator
) -> Int[np.ndarray, "n j"]:
    """k-means on the images with several regions, never two of one image in a group; the rest joins the nearest."""
    several = counted.sum(1) >= 2
    directions = _find_directions(units[several], counted[several])
    points = units @ directions  # (n, j, r)
    sets = [points[row][counted[row]] for row in np.flatnonzero(several)]
    best = min((_run(sets, n_groups, rng) for _ in range(N_STARTS)), key=lambda start: start[0])
    concept = np.full(there.shape, -1)
    for row in np.flatnonzero(there.any(1)):
        # two regions of an image that did not both count may be parts of one thing: no rule for them
        mine = points[row][there[row]]
        pick = _assign(mine, best[1]) if counted[row].sum() == len(mine) else _distances(mine, best[1]).argmin(1)
        concept[row, there[row]] = pick
    return concept


def _find_directions(units: np.ndarray, counted: np.ndarray) -> Float[np.ndarray, "d r"]:
    """Leading directions of the differences between regions of the same image: what images share cancels."""
    pairs = itertools.combinations(range(units.shape[1]), 2)
    differences = [(units[:, a] - units[:, b])[counted[:, a] & counted[:, b]] for a, b in pairs]
    _, rows = decompose_rows(np.concatenate(differences))
    return np.asarray(rows[:N_DIRECTIONS].T)


def _run(sets: list[np.ndarray], n_groups: int, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """Run k-means from one start; total squared distance and the centres (g, r)."""
    pool = np.concatenate(sets)
    centres = sets[int(rng.integers(len(sets)))][:n_groups]
    while len(centres) < n_groups:
        far = _distances(pool, centres).min(1) + 1e-12
        centres = np.vstack([centres, pool[rng.choice(len(pool), p=far / far.sum())]])
    for _ in range(N_ROUNDS):
        picks = np.concatenate([_assign(own, centres) for own in sets])
        centres = np.stack(
            [pool[picks == g].mean(0) if (picks == g).any() else pool[rng.integers(len(pool))] for g in range(n_groups)]
        )
    total = sum(float(_distances(own, centres)[np.arange(len(own)), _assign(own, centres)].sum()) for own in sets)
    return total, centres


def _assign(points: np.ndarray, centres: np.ndarray) -> Int[np.ndarray, " j"]:
    """Nearest centres, a different one for each point; with more points than centres simply the nearest."""
    distances = _distances(points, centres)
    if len(points) > len(centres):
        return np.asarray(distances.argmin(1))
    options = list(itertools.permutations(range(len(centres)), len(points)))
    costs = [distances[np.arange(len(points)), list(option)].sum() for option in options]
    return np.array(options[int(np.argmin(costs))])


def _distances(points: np.ndarray, centres: np.ndarray) -> Float[np.ndarray, "j g"]:
    return np.asarray(((points[:, None] - centres) ** 2).sum(2))


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval over images; NaN bounds where there are too few."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ConceptFinding:
    """Something that a class's images show and the network reads.

    Attributes:
        label: index of the class it was found in.
        channels: of the layer, those that lose most where it is removed; at most five.
        centre: (d,) mean unit signature.
        mask_share: share of an image's area, on average over its regions.
        images: (q,) rows of `Evidence` that show it.
        slots: (q,) slot of its region in each of these images.
        effect: drop of accuracy by class index, for its own class.
    """

    label: int
    channels: tuple[int, ...]
    centre: Float[np.ndarray, " d"]
    mask_share: float
    images: Int[np.ndarray, " q"]
    slots: Int[np.ndarray, " q"]
    effect: dict[int, Share]


@dataclass(frozen=True)
class ClassFinding:
    """Image reliance and redundancy of one class.

    Attributes:
        label: class index.
        n, n_correct: images examined, and of these correct before anything is removed.
        reliance: largest drop that one concept causes.
        concept: index in `EvidenceFindings.concepts`; None: no concept flips a prediction.
        redundancy: regions removed together until accuracy is at most 50 %, with its 95 % interval; None: more
            than were searched. 0: it is so from the start.
        thin: fewer than 30 images.
    """

    label: int
    n: int
    n_correct: int
    reliance: Share
    concept: int | None
    redundancy: int | None
    redundancy_low: int | None
    redundancy_high: int | None
    thin: bool


@dataclass(frozen=True)
class EvidenceFindings:
    """Findings of all classes with images, by label, and of their concepts."""

    classes: tuple[ClassFinding, ...]
    concepts: tuple[ConceptFinding, ...]


def assess_evidence(evidence: Evidence, rng: np.random.Generator) -> EvidenceFindings:
    """Assess the concepts, image reliance and redundancy of every class in `evidence`.

    Args:
        evidence: all images of these classes, on the processor.
        rng: starting points of the grouping and the draws of the intervals.
    """
    labels = evidence.labels.numpy()
    clean, together = evidence.clean.double().numpy(), evidence.together.double().numpy()
    counted = mark_counted_regions(clean, together)
    groupings: dict[int, Grouping] = {}
    concepts: list[ConceptFinding] = []
    for label in np.unique(labels).tolist():
        rows = labels == label
        groupings[label] = group_regions(evidence.signatures.numpy()[rows].astype(np.float64), counted[rows], rng)
        concepts += _describe(evidence, label, np.flatnonzero(rows), groupings[label])
    concepts = [_with_effect(evidence, concept, rng) for concept in concepts]
    return EvidenceFindings(
        tuple(_summarise(evidence, label, groupings[label], concepts, rng) for label in groupings), tuple(concepts)
    )


def flips_without_concept(evidence: Evidence, concept: ConceptFinding) -> Bool[np.ndarray, " n"]:
    """Mark the images of the concept's class that are misclassified when it alone is removed."""
    flipped = np.zeros(len(evidence.labels), bool)
    np.logical_or.at(flipped, concept.images, evidence.flips.numpy()[concept.images, concept.slots])
    return flipped


def _describe(evidence: Evidence, label: int, rows: Int[np.ndarray, " r"], grouping: Grouping) -> list[ConceptFinding]:
    concepts = []
    for group, centre in enumerate(grouping.centres):
        members, slots = np.nonzero(grouping.concept == group)
        masks = evidence.regions[torch.from_numpy(rows[members]), torch.from_numpy(slots)]
        strongest = np.argsort(-np.abs(centre), kind="stable")[:5]
        channels = tuple(int(channel) for channel in strongest)
        share = float(masks.float().mean())
        concepts.append(ConceptFinding(label, channels, centre, share, rows[members], slots, {}))
    return concepts


def _with_effect(evidence: Evidence, concept: ConceptFinding, rng: np.random.Generator) -> ConceptFinding:
    """Add the drop of its own class; how alike signatures are does not say whether other classes share it."""
    own = flips_without_concept(evidence, concept)[evidence.labels.numpy() == concept.label]
    return ConceptFinding(**{**vars(concept), "effect": {concept.label: share_of(own, rng)}})


def _summarise(
    evidence: Evidence, label: int, grouping: Grouping, concepts: list[ConceptFinding], rng: np.random.Generator
) -> ClassFinding:
    rows = evidence.labels.numpy() == label
    n = int(rows.sum())
    mine = [index for index, concept in enumerate(concepts) if concept.label == label]
    flipped = np.array([flips_without_concept(evidence, concepts[index])[rows] for index in mine]).reshape(-1, n)
    best = mine[int(flipped.mean(1).argmax())] if flipped.any() else None
    low, high = draw_interval(lambda picks: flipped[:, picks].mean(1).max(initial=0.0), n, rng)
    clean, together = evidence.clean.numpy()[rows], evidence.together.numpy()[rows]
    correct = mark_still_correct(clean, together)
    redundancy = count_removals(correct)
    limit = correct.shape[1]
    drawn = draw_interval(lambda picks: _or_limit(count_removals(correct[picks]), limit), n, rng)
    wide = [0.0, limit] if np.isnan(drawn).any() else drawn  # too few images: anything may be
    bounds = [None if round(bound) >= limit else round(bound) for bound in wide]
    return ClassFinding(
        label=label,
        n=n,
        n_correct=int((clean > 0).sum()),
        reliance=Share(float(flipped.mean(1).max(initial=0.0)), low, high),
        concept=best,
        redundancy=redundancy,
        redundancy_low=bounds[0],
        redundancy_high=bounds[1],
        thin=n < THIN,
    )


def mark_still_correct(clean: Float[np.ndarray, " n"], together: Float[np.ndarray, "n j"]) -> Bool[np.ndarray, "n k"]:
    """Mark images that are correct with no region removed, with the first one removed, and so on: (n, 1 + j).

    Where there is no further region, or several were joined, an image stays what it was: having nothing more to remove
    is no loss.
    """
    correct = np.concatenate([clean[:, None] > 0, together > 0], axis=1)
    for slot in range(together.shape[1]):
        unknown = np.isnan(together[:, slot])
        correct[unknown, slot + 1] = correct[unknown, slot]
    return correct


def count_removals(correct: Bool[np.ndarray, "n k"]) -> int | None:
    """Count the regions after whose removal at most half of the images are correct; None: not with those searched."""
    below = np.flatnonzero(correct.mean(0) <= 0.5)
    return int(below[0]) if len(below) else None


def share_of(flipped: Bool[np.ndarray, " n"], rng: np.random.Generator) -> Share:
    """Compute the share of images that flipped, with its bootstrap interval: a draw's count is binomial."""
    n, value = len(flipped), float(flipped.mean())
    if n < LEAST_FOR_INTERVAL:
        return Share(value, float("nan"), float("nan"))
    low, high = np.percentile(rng.binomial(n, value, N_DRAWS) / n, [2.5, 97.5], method="nearest")
    return Share(value, float(low), float(high))


def draw_interval(statistic: Callable[[np.ndarray], float], n: int, rng: np.random.Generator) -> tuple[float, float]:
    """Compute the 95 % bootstrap interval of a statistic of drawn rows over n images; NaN below six images."""
    if n < LEAST_FOR_INTERVAL:
        return float("nan"), float("nan")
    drawn = [statistic(rng.integers(n, size=n)) for _ in range(N_DRAWS)]
    low, high = np.percentile(drawn, [2.5, 97.5], method="nearest")
    return float(low), float(high)


def _or_limit(value: int | None, limit: int) -> float:
    return float(limit if value is None else value)


def mask_of(evidence: Evidence, concept: ConceptFinding) -> Bool[Tensor, "q gh gw"]:
    """Select the concept's cells in each of the images that show it."""
    return evidence.regions[torch.from_numpy(concept.images), torch.from_numpy(concept.slots)]
