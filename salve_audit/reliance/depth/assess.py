"""From pieces of evidence to findings per class: how much rests on one concept, and how many pieces must go.

The reliance of a class is the share of its pictures that are right and turn wrong when one concept is taken out of
them, of the concept for which that is largest: an estimate of the accuracy lost if that thing were not there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from salve_audit.reliance.depth.evidence import Evidence
from salve_audit.reliance.depth.grouping import Grouping, count_pieces, group_pieces

N_DRAWS = 1000
THIN = 30  # pictures below which a class's numbers are marked
LEAST_FOR_INTERVAL = 6


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval over pictures; NaN bounds where there are too few."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ConceptFinding:
    """Something that a class's pictures show and the network reads.

    Attributes:
        label: the class it was found in.
        channels: of the layer, those that lose most where it is taken out; at most five.
        centre: (d,) mean unit trait.
        mask_share: of a picture's area, on average where it is shown.
        pictures: rows of `Evidence` that show it.
        pieces: which piece of each of these pictures it is.
        effect: its class to the drop of that class's accuracy.
    """

    label: int
    channels: tuple[int, ...]
    centre: Float[np.ndarray, " d"]
    mask_share: float
    pictures: Int[np.ndarray, " q"]
    pieces: Int[np.ndarray, " q"]
    effect: dict[int, Share]


@dataclass(frozen=True)
class ClassFinding:
    """Reliance of one class at depth.

    Attributes:
        label: class index.
        n, n_correct: pictures examined, and of these right before anything is taken out.
        reliance: largest drop that one concept causes.
        concept: index in `DepthFindings.concepts`; None: no concept changes a prediction.
        redundancy: pieces taken out together until accuracy is at most 50 %, with its 95 % interval; None: more
            than were searched. 0: it is so from the start.
        thin: fewer than 30 pictures.
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
class DepthFindings:
    """All classes with pictures, by label, and their concepts."""

    classes: tuple[ClassFinding, ...]
    concepts: tuple[ConceptFinding, ...]


def assess_depth(evidence: Evidence, rng: np.random.Generator) -> DepthFindings:
    """Concepts and reliance of every class in `evidence`.

    Args:
        rng: starting points of the grouping and the draws of the intervals.
    """
    labels = evidence.labels.numpy()
    clean, together = evidence.clean.double().numpy(), evidence.together.double().numpy()
    counted = count_pieces(clean, together)
    groupings: dict[int, Grouping] = {}
    concepts: list[ConceptFinding] = []
    for label in np.unique(labels).tolist():
        rows = labels == label
        groupings[label] = group_pieces(evidence.traits.numpy()[rows].astype(np.float64), counted[rows], rng)
        concepts += _describe(evidence, label, np.flatnonzero(rows), groupings[label])
    concepts = [_with_effect(evidence, one, rng) for one in concepts]
    return DepthFindings(
        tuple(_summarise(evidence, label, groupings[label], concepts, rng) for label in groupings), tuple(concepts)
    )


def piece_effects(evidence: Evidence, concept: ConceptFinding) -> Bool[np.ndarray, " n"]:
    """Which pictures of the concept's class turn wrong when it alone is taken out."""
    turned = np.zeros(len(evidence.labels), bool)
    np.logical_or.at(turned, concept.pictures, evidence.flips.numpy()[concept.pictures, concept.pieces])
    return turned


def _describe(evidence: Evidence, label: int, rows: Int[np.ndarray, " r"], grouping: Grouping) -> list[ConceptFinding]:
    found = []
    for group, centre in enumerate(grouping.centres):
        place, piece = np.nonzero(grouping.concept == group)
        masks = evidence.regions[torch.from_numpy(rows[place]), torch.from_numpy(piece)]
        strongest = np.argsort(-np.abs(centre), kind="stable")[:5]
        channels = tuple(int(one) for one in strongest)
        share = float(masks.float().mean())
        found.append(ConceptFinding(label, channels, centre, share, rows[place], piece, {}))
    return found


def _with_effect(evidence: Evidence, concept: ConceptFinding, rng: np.random.Generator) -> ConceptFinding:
    """The same with the drop of its own class: how alike traits are does not say whether other classes share it."""
    own = piece_effects(evidence, concept)[evidence.labels.numpy() == concept.label]
    return ConceptFinding(**{**vars(concept), "effect": {concept.label: share_of(own, rng)}})


def _summarise(
    evidence: Evidence, label: int, grouping: Grouping, concepts: list[ConceptFinding], rng: np.random.Generator
) -> ClassFinding:
    rows = evidence.labels.numpy() == label
    n = int(rows.sum())
    mine = [index for index, one in enumerate(concepts) if one.label == label]
    turned = np.array([piece_effects(evidence, concepts[index])[rows] for index in mine]).reshape(-1, n)
    best = mine[int(turned.mean(1).argmax())] if turned.any() else None
    low, high = draw_interval(lambda picks: turned[:, picks].mean(1).max(initial=0.0), n, rng)
    clean, together = evidence.clean.numpy()[rows], evidence.together.numpy()[rows]
    right = still_right(clean, together)
    redundancy = count_removals(right)
    limit = right.shape[1]
    drawn = draw_interval(lambda picks: _or_limit(count_removals(right[picks]), limit), n, rng)
    wide = [0.0, limit] if np.isnan(drawn).any() else drawn  # too few pictures: anything may be
    bounds = [None if round(one) >= limit else round(one) for one in wide]
    return ClassFinding(
        label=label,
        n=n,
        n_correct=int((clean > 0).sum()),
        reliance=Share(float(turned.mean(1).max(initial=0.0)), low, high),
        concept=best,
        redundancy=redundancy,
        redundancy_low=bounds[0],
        redundancy_high=bounds[1],
        thin=n < THIN,
    )


def still_right(clean: Float[np.ndarray, " n"], together: Float[np.ndarray, "n j"]) -> Bool[np.ndarray, "n k"]:
    """Which pictures are right with no piece taken out, with the first one, and so on: (n, 1 + j).

    Where no further piece was found, or several were joined, a picture stays what it was: having nothing more to take
    out is no loss.
    """
    right = np.concatenate([clean[:, None] > 0, together > 0], axis=1)
    for piece in range(together.shape[1]):
        unknown = np.isnan(together[:, piece])
        right[unknown, piece + 1] = right[unknown, piece]
    return right


def count_removals(right: Bool[np.ndarray, "n j"]) -> int | None:
    """After how many pieces at most half of the pictures are right; None: not with those searched."""
    below = np.flatnonzero(right.mean(0) <= 0.5)
    return int(below[0]) if len(below) else None


def share_of(turned: Bool[np.ndarray, " n"], rng: np.random.Generator) -> Share:
    """The share of pictures that turned; how many do in a bootstrap draw is binomial."""
    n, value = len(turned), float(turned.mean())
    if n < LEAST_FOR_INTERVAL:
        return Share(value, float("nan"), float("nan"))
    low, high = np.percentile(rng.binomial(n, value, N_DRAWS) / n, [2.5, 97.5], method="nearest")
    return Share(value, float(low), float(high))


def draw_interval(statistic: Callable[[np.ndarray], float], n: int, rng: np.random.Generator) -> tuple[float, float]:
    """95 % bootstrap interval over n pictures; NaN below six."""
    if n < LEAST_FOR_INTERVAL:
        return float("nan"), float("nan")
    drawn = [statistic(rng.integers(n, size=n)) for _ in range(N_DRAWS)]
    low, high = np.percentile(drawn, [2.5, 97.5], method="nearest")
    return float(low), float(high)


def _or_limit(value: int | None, limit: int) -> float:
    return float(limit if value is None else value)


def mask_of(evidence: Evidence, concept: ConceptFinding) -> Bool[Tensor, "q gh gw"]:
    """Cells of the concept in each of the pictures that show it."""
    return evidence.regions[torch.from_numpy(concept.pictures), torch.from_numpy(concept.pieces)]
