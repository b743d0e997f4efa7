"""Thresholds of every class under one feature each, one task a class."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from salve_audit.reliance.margins import list_rivals
from salve_audit.reliance.scaling import Samples
from salve_audit.reliance.thresholds import Thresholds, thresholds, thresholds_against
from salve_audit.tasks import TaskMap, map_threads

Head = tuple[Float[np.ndarray, "k d"], Float[np.ndarray, " k"]]  # weight and bias in float64
OwnPart = tuple[
    Float[np.ndarray, "n d"], list[Float[np.ndarray, " d"]], int
]  # a class's activations, its couplings, its index

NO_SAMPLES = thresholds(np.zeros((0, 1)), np.zeros((1, 1)), None, np.zeros(1), 0)


def class_thresholds(
    samples: Samples, couplings: Sequence[Float[np.ndarray, "k d"]], tasks: TaskMap = map_threads
) -> list[list[Thresholds]]:
    """Thresholds of each class's own samples under one coupling a class: per entry of `couplings`, in class order."""
    head = np.asfortranarray(samples.head.weight, np.float64), samples.head.bias.astype(np.float64)
    loads = [functools.partial(_load, samples, couplings, index) for index in range(samples.head.n_classes)]
    by_class = tasks(_find_thresholds, head, loads)
    return [[found[place] for found in by_class] for place in range(len(couplings))]


def _load(samples: Samples, couplings: Sequence[Float[np.ndarray, "k d"]], index: int) -> OwnPart:
    return samples.of_class(index).acts, [each[index] for each in couplings], index


def _find_thresholds(head: Head, own: OwnPart) -> list[Thresholds]:
    acts, couplings, index = own
    if not len(acts):  # an output of thousands that nobody has images of
        return [NO_SAMPLES] * len(couplings)
    (weight, bias), exact = head, acts.astype(np.float64)
    rivals = list_rivals(weight, bias, index)
    row = np.ascontiguousarray(weight[index])
    return [thresholds_against(exact, row, rivals, coupling) for coupling in couplings]


@dataclass(frozen=True)
class SampleThresholds:
    """One row per audit sample, under the dominant feature of its own class.

    Attributes:
        predicted, flips_to: (n,) class indices; `flips_to` is -1 where nothing flips.
        margin: (n,) own logit minus the largest other one at strength 0.
        analytical, numerical, flip: (n,) in α.
        coupling_max: (n,) of the feature: times this, α becomes α̂.
        status: (n,) of the numerical threshold.
    """

    predicted: Int[np.ndarray, " n"]
    flips_to: Int[np.ndarray, " n"]
    margin: Float[np.ndarray, " n"]
    analytical: Float[np.ndarray, " n"]
    numerical: Float[np.ndarray, " n"]
    flip: Float[np.ndarray, " n"]
    coupling_max: Float[np.ndarray, " n"]
    status: np.ndarray  # of str, (n,)


def sample_rows(samples: Samples, coupling: Float[np.ndarray, "k d"], by_class: list[Thresholds]) -> SampleThresholds:
    """The classes' thresholds put back into the order of the samples."""
    n = len(samples.labels)
    rows = SampleThresholds(
        predicted=np.zeros(n, dtype=np.int64),
        flips_to=np.full(n, -1, dtype=np.int64),
        margin=np.zeros(n),
        analytical=np.full(n, np.nan),
        numerical=np.full(n, np.nan),
        flip=np.full(n, np.nan),
        coupling_max=coupling.max(1)[samples.labels] if n else np.zeros(0),
        status=np.full(n, "not_applicable"),
    )
    for index, of_class in enumerate(by_class):
        at = np.flatnonzero(samples.labels == index)
        own = samples.of_class(index)
        rows.analytical[at], rows.numerical[at], rows.flip[at] = (
            of_class.analytical,
            of_class.numerical,
            of_class.flip,
        )
        rows.status[at] = of_class.status
        logits = _logits(own, np.zeros(len(at)), coupling[index])
        rows.predicted[at] = logits.argmax(1)
        rows.margin[at] = _margin(logits, index)[0]
        flips = np.isfinite(of_class.flip)
        at_flip = _logits(own, np.where(flips, of_class.flip, 0.0), coupling[index])
        rows.flips_to[at] = np.where(flips, _margin(at_flip, index)[1], -1)
    return rows


def _logits(
    samples: Samples, alpha: Float[np.ndarray, " n"], coupling: Float[np.ndarray, " d"]
) -> Float[np.ndarray, "n k"]:
    scale = np.maximum(0.0, 1.0 - alpha[:, None] * coupling)
    return (samples.acts * scale) @ samples.head.weight.astype(np.float64).T + samples.head.bias


def _margin(logits: Float[np.ndarray, "n k"], index: int) -> tuple[np.ndarray, np.ndarray]:
    """Own logit minus the best rival's, and which rival that is."""
    rivals = logits.copy()
    rivals[:, index] = -np.inf
    return logits[:, index] - rivals.max(1, initial=-np.inf), rivals.argmax(1)
