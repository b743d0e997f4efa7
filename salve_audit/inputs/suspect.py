"""Does the mapping of classes to outputs look wrong? Told from predictions after the pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Int
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest

from salve_audit.inputs.doubt import NO_BETTER, WRONG_OUTPUTS

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
    """
    predicted = np.asarray(predictions)
    predicted = predicted.argmax(1) if predicted.ndim == 2 else predicted
    labels = np.asarray(labels)
    if len(labels) == 0:
        return None
    present, own = np.unique(labels, return_inverse=True)
    seen, guess = np.unique(predicted, return_inverse=True)
    n = len(labels)
    shares = np.zeros((2, n_outputs))
    shares[0, present], shares[1, seen] = np.bincount(own) / n, np.bincount(guess) / n
    chance = float(shares[0] @ shares[1])
    n_correct = int((predicted == labels).sum())
    accuracy = n_correct / n
    at_chance = binomtest(n_correct, n, min(chance, 1.0), alternative="greater").pvalue > SIGNIFICANCE
    rows, columns, best = _best_order(own, guess)
    fits = best > accuracy and best > _best_by_luck(own, guess)
    is_moved = present[rows] != seen[columns]
    far_better = best >= FAR_BETTER * accuracy or _are_exchanged(
        labels, predicted, present[rows][is_moved], best, accuracy
    )
    if not at_chance and not (fits and far_better):
        return None
    said = f"Accuracy is {100 * accuracy:.1f} %"
    said += f", {NO_BETTER} ({100 * chance:.1f} %)" if at_chance else ""
    if not fits:
        return f"{said}: the model or the labels are wrong, and no other order of its outputs would fit."
    moved = [(int(present[row]), int(seen[column])) for row, column in zip(rows, columns, strict=True)]
    return (
        f"{said}: {WRONG_OUTPUTS}. The order that fits best "
        f"({_name_moved(moved, classes)}) would give {100 * best:.1f} %; {remedy}."
    )


def _are_exchanged(
    labels: Int[np.ndarray, " n"],
    predicted: npt.NDArray[np.integer] | npt.NDArray[np.floating],
    moved: Int[np.ndarray, " m"],
    best: float,
    accuracy: float,
) -> bool:
    """Whether some classes alone are mapped wrongly: most of their samples are right in the other order, few in this.

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
