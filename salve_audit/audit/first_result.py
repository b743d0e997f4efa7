"""The first result of an audit, told as soon as the network has seen the images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from salve_audit.activations.store import Activations, ActivationSplit
from salve_audit.audit.progress import emit
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.mapped_pages import release_pages
from salve_audit.results import ClassReliance

BLOCK_ROWS = 8192
MOST_SHOWN = 5  # of the classes with the lowest accuracy
MOST_ROWS = 12


def tell_first(activations: Activations, classes: Sequence[str], notes: Sequence[str], mapping: str = "") -> None:
    """Tell the accuracy, the weakest classes, and what is to be known of model and data."""
    audit, n_fit = activations.audit, len(activations.fit.labels)
    hits = predict_classes(audit, activations.head) == audit.labels
    present = [label for label in range(len(classes)) if np.any(audit.labels == label)]
    by_class = {label: float(hits[audit.labels == label].mean()) for label in present}
    weakest = sorted(present, key=lambda label: by_class[label])[:MOST_SHOWN]
    accuracy = float(hits.mean()) if len(hits) else 0.0
    lines = [
        f"accuracy {100 * accuracy:.1f} % on {len(hits):,} images to audit, {n_fit:,} to fit, {len(present)} classes",
        "lowest: " + ", ".join(f"{classes[label]} {100 * by_class[label]:.1f} %" for label in weakest),
        *([f"classes: {mapping}"] if mapping else []),
        *([f"{len(activations.skipped):,} images cannot be read"] if activations.skipped else []),
        *(f"note: {note}" for note in notes),
    ]
    emit(
        "first_result",
        lines,
        accuracy=accuracy,
        n_audit=len(hits),
        n_fit=n_fit,
        n_skipped=len(activations.skipped),
        classes=[{"class": classes[label], "accuracy": by_class[label]} for label in present],
        mapping=mapping,
        notes=list(notes),
    )


def predict_classes(split: ActivationSplit, head: LinearHead) -> Int[np.ndarray, " n"]:
    """The predicted class of every image, block by block."""
    predicted = np.empty(len(split.labels), dtype=np.int64)
    for start in range(0, len(predicted), BLOCK_ROWS):
        block = np.asarray(split.acts[start : start + BLOCK_ROWS])
        predicted[start : start + BLOCK_ROWS] = (block @ head.weight.T + head.bias).argmax(1)
        release_pages(split.acts)
    return predicted


def tell_sensitivity(classes: Sequence[ClassReliance]) -> None:
    """Tell how fragile the classes are at the head, most fragile first, while the slower stages are still to come."""
    order = sorted(classes, key=lambda record: (record.alpha_hat.flip.median or float("inf"), record.index))
    rows = [("class", "accuracy", "alpha_hat flip")]
    rows += [
        (record.name, f"{100 * record.accuracy:.1f} %", _number(record.alpha_hat.flip.median))
        for record in order[:MOST_ROWS]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    more = [f"... {len(order) - MOST_ROWS} more classes"] if len(order) > MOST_ROWS else []
    emit(
        "sensitivity",
        [*(f"  {name:{widths[0]}}  {accuracy:>{widths[1]}}  {flip}" for name, accuracy, flip in rows), *more],
        classes=[
            {
                "class": record.name,
                "n": record.n,
                "accuracy": record.accuracy,
                "alpha_hat_flip": record.alpha_hat.flip.median,
                "low": record.alpha_hat.flip.low,
                "high": record.alpha_hat.flip.high,
            }
            for record in classes
        ],
    )


def _number(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.3g}"
