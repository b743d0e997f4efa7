"""The data check: a few hundred images' properties against their labels, and the search for images there twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from salve_audit.activations.spread import spread_rows
from salve_audit.data_check.duplicates import Split, find_duplicates
from salve_audit.data_check.properties import PROPERTIES, measure_properties
from salve_audit.data_check.separation import LEAST_IMAGES, find_cues
from salve_audit.errors import DataError
from salve_audit.inputs.data.sources.source import ImageSource
from salve_audit.results.data_check import DataCheck

MOST_IMAGES = 800  # whose properties are measured
MOST_OF_A_CLASS = 60
MOST_PAIRS = 20  # that are listed


@dataclass(frozen=True)
class DataCheckInputs:
    """Images of both splits.

    Attributes:
        source: reads them.
        fit, audit: with their activations.
        classes: names in output order.
        advance: is told how many of how many images were looked at.
    """

    source: ImageSource
    fit: Split
    audit: Split
    classes: Sequence[str]
    advance: Callable[[int, int], None] | None = None


def check_data(inputs: DataCheckInputs) -> DataCheck:
    """Measure properties of some images of every class, and look for duplicates of all audit images."""
    splits = (inputs.audit, inputs.fit)
    paths = [path for split in splits for path in split.paths]
    labels = np.concatenate([split.labels for split in splits])
    rows = choose_images(labels)
    values, unread = np.full((len(rows), len(PROPERTIES)), np.nan), 0
    for at, row in enumerate(rows.tolist()):
        try:
            values[at] = measure_properties(inputs.source.read(paths[row]), paths[row])
        except (DataError, OSError, ValueError):
            unread += 1
        if inputs.advance is not None:
            inputs.advance(at + 1, len(rows))
    found = find_duplicates(inputs.fit, inputs.audit, inputs.source, inputs.classes)
    counts = np.bincount(labels[rows], minlength=1)
    n_classes = int((counts >= LEAST_IMAGES).sum())
    return DataCheck(
        n_images=len(rows) - unread,
        n_classes=n_classes,
        n_classes_left_out=len(np.unique(labels)) - n_classes,
        properties=PROPERTIES,
        cues=find_cues(values, labels[rows], inputs.classes),
        n_compared=found.n_compared,
        n_audit_in_fit=len({pair.path for pair in found.pairs if pair.across}),
        n_within=len({pair.path for pair in found.pairs if not pair.across}),
        n_conflicts=sum(pair.class_name != pair.other_class for pair in found.pairs),
        pairs=found.pairs[:MOST_PAIRS],
        unread=unread,
    )


def choose_images(labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Choose images evenly from every class, or, where there are too many classes, from some of them evenly."""
    present = np.unique(labels)
    fitting = MOST_IMAGES // LEAST_IMAGES
    chosen = present if len(present) <= fitting else present[np.linspace(0, len(present) - 1, fitting, dtype=np.int64)]
    each = min(MOST_OF_A_CLASS, max(LEAST_IMAGES, MOST_IMAGES // max(1, len(chosen))))
    return np.concatenate([spread_rows(np.flatnonzero(labels == label), each) for label in chosen])
