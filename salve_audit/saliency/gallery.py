"""The choice of images to show: those on which a feature is strongest, and those of a class that flip first.

All of it is chosen from cached codes and thresholds; no image is opened for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from salve_audit.reliance.by_class import SampleThresholds
from salve_audit.results import ClassReliance, FeatureInfo
from salve_audit.stress.population import fragility

MAX_FEATURES = 64
DOMINANT_FIRST = 48  # of them for dominant features, so that very many classes leave some room to shared ones
FEATURE_TILES = 240  # images of all features together
MOST_IMAGES, LEAST_IMAGES = 5, 3  # of one feature
MAX_CLASSES = 16
FRAGILE_IMAGES = 3  # of one class
SCORED_IMAGES = 2  # of a gallery, whose maps are tried: about ten passes each
MOST_SCORED, MOST_SCORED_LARGE, LARGE = 48, 24, 160 * 160  # in all, and of images with more pixels


@dataclass(frozen=True)
class ChosenFeature:
    """A feature and the rows of the audit split where its |code| is largest, strongest first."""

    index: int
    rows: tuple[int, ...]


@dataclass(frozen=True)
class ChosenClass:
    """A class with the rows of its images that flip at the lowest strengths, most fragile first."""

    record: ClassReliance
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Chosen:
    """Features and classes whose images are shown, and how many are not.

    Attributes:
        features: dominant ones of the most fragile classes first, then shared ones.
        classes: most fragile first.
        n_features_left_out, n_classes_left_out: beyond the caps.
    """

    features: tuple[ChosenFeature, ...]
    classes: tuple[ChosenClass, ...]
    n_features_left_out: int
    n_classes_left_out: int

    def scored(self, n_pixels: int) -> dict[int, set[tuple[str, int]]]:
        """The first images of each gallery, as long as there is room: by row, ("class" or "feature", its index).

        Args:
            n_pixels: of an image.
        """
        most = MOST_SCORED if n_pixels <= LARGE else MOST_SCORED_LARGE
        galleries = [("class", each.record.index, each.rows) for each in self.classes]
        galleries += [("feature", each.index, each.rows) for each in self.features]
        places = range(SCORED_IMAGES)
        pairs = [(rows[at], (kind, index)) for at in places for kind, index, rows in galleries if rows[at:]]
        scored: dict[int, set[tuple[str, int]]] = {}
        for row, shown in pairs[:most]:
            scored.setdefault(row, set()).add(shown)
        return scored

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of the audit split that are shown anywhere, ascending."""
        of_features = {row for feature in self.features for row in feature.rows}
        return tuple(sorted(of_features.union(row for of_class in self.classes for row in of_class.rows)))


def choose_images(
    classes: Sequence[ClassReliance],
    features: Sequence[FeatureInfo],
    codes: Float[np.ndarray, "n m"],
    thresholds: SampleThresholds,
    labels: Int[np.ndarray, " n"],
) -> Chosen:
    """The galleries of the dominant and shared features, and of every class's most fragile images.

    Args:
        classes, features: what the earlier stages found.
        codes: of the audit split.
        thresholds: its thresholds, row by row.
        labels: of the audit split.
    """
    order = sorted((record for record in classes if record.n), key=fragility)
    indices, n_left = _choose_features(order, features)
    n_images = min(MOST_IMAGES, max(LEAST_IMAGES, FEATURE_TILES // max(1, len(indices))))
    fragile = [record for record in order if record.n_correct]
    return Chosen(
        features=tuple(ChosenFeature(index, strongest_rows(codes[:, index], n_images)) for index in indices),
        classes=tuple(
            ChosenClass(record, _first_to_flip(record, thresholds, labels)) for record in fragile[:MAX_CLASSES]
        ),
        n_features_left_out=n_left,
        n_classes_left_out=max(0, len(fragile) - MAX_CLASSES),
    )


def strongest_rows(codes: Float[np.ndarray, " n"], n: int) -> tuple[int, ...]:
    """Rows with the largest |code|, either sign, strongest first; rows where the feature is silent never count."""
    order = np.argsort(-np.abs(codes), kind="stable")[:n]
    return tuple(row for row in order.tolist() if codes[row] != 0)


def _choose_features(order: Sequence[ClassReliance], features: Sequence[FeatureInfo]) -> tuple[list[int], int]:
    """Indices, and how many of the dominant and shared features are left out."""
    dominant = list(dict.fromkeys(record.dominant_feature for record in order))
    shared = [feature.index for feature in features if feature.cross_class and feature.index not in dominant]
    first, later = dominant[:DOMINANT_FIRST], dominant[DOMINANT_FIRST:]
    chosen = set([*first, *shared, *later][:MAX_FEATURES])
    every = [*dominant, *shared]
    return [index for index in every if index in chosen], len(every) - len(chosen)


def _first_to_flip(
    record: ClassReliance, thresholds: SampleThresholds, labels: Int[np.ndarray, " n"]
) -> tuple[int, ...]:
    """Rows of the class that are right and flip, the lowest thresholds first."""
    rows = np.flatnonzero((labels == record.index) & np.isfinite(thresholds.flip))
    order = np.argsort(thresholds.flip[rows], kind="stable")[:FRAGILE_IMAGES]
    return tuple(rows[order].tolist())
