"""A mapping of classes to outputs that looks wrong, decided from predictions after the pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Int
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest

from salve_audit.results.notes import NO_BETTER, WRONG_OUTPUTS

SIGNIFICANCE = 0.01
N_SHUFFLES = 20
FAR_BETTER = 2.0  # times the accuracy: no weak model hides that behind another order
SHOWN = 6
LEAST_MOVED = 20  # samples


def suspect_mapping(
    predictions: npt.NDArray[np.floating] | npt.NDArray[np.integer],
    labels: Int[np.ndarray, " n"],
    n_outputs: int,
    classes: Sequence[str] | None = None,
    remedy: str = "--classes FILE maps them by hand",
    matched_by_name: bool = False,
) -> str | None:
    """A warning where accuracy is at chance, or where another order of the outputs would fit far better.

    Chance is the accuracy of predictions that do not depend on the label, with the same shares of every class; the
    test is a one-sided binomial one. The best order maximises the accuracy (Hungarian method on the confusion matrix);
    it is only named where it fits better than for shuffled labels.

    Args:
        predictions: (n,) predicted outputs, or (n, k) logits.
        labels: (n,) outputs that the mapping asks for.
        n_outputs: k.
        classes: names by output, for the text.
        remedy: what to do where another order fits.
        matched_by_name: classes and outputs are called the same; another order of the outputs then means images that
            are confused, and is no reason for a warning.
    """
    predicted = np.asarray(predictions)
    predicted = predicted.argmax(1) if predicted.ndim == 2 else predicted
    labels = np.asarray(labels)
    if len(labels) == 0:
        return None
    n_correct = int((predicted == labels).sum())
    accuracy, chance = n_correct / len(labels), _compute_chance(labels, predicted, n_outputs)
    at_chance = binomtest(n_correct, len(labels), min(chance, 1.0), alternative="greater").pvalue > SIGNIFICANCE
    order = _judge_best_order(labels, predicted, accuracy)
    if not at_chance and (matched_by_name or not (order.fits and order.far_better)):
        return None
    said = f"Accuracy is {100 * accuracy:.1f} %"
    said += f", {NO_BETTER} ({100 * chance:.1f} %)" if at_chance else ""
    if not order.fits:
        return f"{said}: the model or the labels are wrong, and no other order of its outputs would fit."
    return (
        f"{said}: {WRONG_OUTPUTS}. The order that fits best "
        f"({_name_moved(order.pairs, classes)}) would give {100 * order.accuracy:.1f} %; {remedy}."
    )


@dataclass(frozen=True)
class _Order:
    """The order of the outputs that fits best.

    Attributes:
        pairs: (label, output) each.
        accuracy: that it would give.
        fits: it is better than the order in use, and than the best one for shuffled labels.
        far_better: it is so by `FAR_BETTER`, over all classes or within those that it moves.
    """

    pairs: list[tuple[int, int]]
    accuracy: float
    fits: bool
    far_better: bool


def _judge_best_order(
    labels: Int[np.ndarray, " n"], predicted: npt.NDArray[np.integer] | npt.NDArray[np.floating], accuracy: float
) -> _Order:
    present, own = np.unique(labels, return_inverse=True)
    outputs, guess = np.unique(predicted, return_inverse=True)
    rows, columns, best = _best_order(own, guess)
    ordered, mapped = present[rows], outputs[columns]
    exchanged = _are_exchanged(labels, predicted, ordered[ordered != mapped], best, accuracy)
    return _Order(
        pairs=[(int(label), int(output)) for label, output in zip(ordered, mapped, strict=True)],
        accuracy=best,
        fits=best > accuracy and best > _best_by_luck(own, guess),
        far_better=best >= FAR_BETTER * accuracy or exchanged,
    )


def _compute_chance(
    labels: Int[np.ndarray, " n"], predicted: npt.NDArray[np.integer] | npt.NDArray[np.floating], n_outputs: int
) -> float:
    """The accuracy of predictions that do not depend on the label, with the same shares of every class."""
    shares = np.zeros((2, n_outputs))
    for row, values in zip(shares, (labels, predicted), strict=True):
        present, counts = np.unique(values, return_counts=True)
        row[present] = counts / len(labels)
    return float(shares[0] @ shares[1])


def _are_exchanged(
    labels: Int[np.ndarray, " n"],
    predicted: npt.NDArray[np.integer] | npt.NDArray[np.floating],
    moved: Int[np.ndarray, " m"],
    best: float,
    accuracy: float,
) -> bool:
    """True where some classes alone are mapped wrongly: most of their samples are right in the other order only.

    All that the other order gains it gains within the `moved` classes.
    """
    among = np.isin(labels, moved)
    n, n_right = int(among.sum()), int((predicted == labels)[among].sum())
    n_other = n_right + (best - accuracy) * len(labels)
    return n >= LEAST_MOVED and n_other >= max(FAR_BETTER * n_right, n / 2)


def _name_moved(pairs: list[tuple[int, int]], classes: Sequence[str] | None) -> str:
    moved = [(label, output) for label, output in pairs if label != output]
    named = ", ".join(f"{classes[label] if classes else label} -> output {output}" for label, output in moved[:SHOWN])
    return f"{named} and {len(moved) - SHOWN} more" if len(moved) > SHOWN else named


def _best_order(
    own: Int[np.ndarray, " n"], guess: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"], float]:
    """Pairs of label and prediction that agree most often, and the accuracy they would give."""
    n_labels, n_seen = int(own.max()) + 1, int(guess.max()) + 1
    counts = np.bincount(own * n_seen + guess, minlength=n_labels * n_seen).reshape(n_labels, n_seen)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return rows, columns, int(counts[rows, columns].sum()) / len(own)


def _best_by_luck(own: Int[np.ndarray, " n"], guess: Int[np.ndarray, " n"]) -> float:
    """The best order's accuracy for labels that say nothing: the largest of some shuffles, always the same ones."""
    rng = np.random.default_rng(0)
    return max(_best_order(rng.permutation(own), guess)[2] for _ in range(N_SHUFFLES))
