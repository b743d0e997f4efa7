"""Runs the edited checkpoint on real images, to compare it with what was predicted from activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from salve_audit.activations.images import LoaderSettings, build_loader
from salve_audit.activations.store import ActivationSplit
from salve_audit.edit.apply import EditedHead
from salve_audit.errors import DataError, NothingMeasuredError
from salve_audit.inputs.data.sources.source import ImageSource
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.exact import exact_convolutions
from salve_audit.inputs.model.head.reader import ENDINGS
from salve_audit.inputs.model.head.trace import trace
from salve_audit.inputs.model.head.verification import VERIFIED_WITHIN
from salve_audit.interventions.affine import AffineHead

TERM_ERROR = 1e-5  # of the sum of all |weight x activation|: what float32 passes in other batches differ by
STRETCH = {"": 1.0, "softmax": 1.0, "log-softmax": 2.0, "sigmoid": 0.25}  # how far an ending carries an error of logits
BATCH_ROWS = 4096


@dataclass(frozen=True)
class ClassCheck:
    """One class: images, accuracy before, as predicted, and as measured on the written file (None: not run)."""

    name: str
    n: int
    before: float
    predicted: float
    measured: float | None


@dataclass(frozen=True)
class Verification:
    """The comparison of predicted and measured accuracies.

    Attributes:
        classes: those with images, in output order.
        difference: largest between predicted and measured outputs; None: the model was not run.
        allowed: the tolerance where that difference is.
    """

    classes: tuple[ClassCheck, ...]
    difference: float | None = None
    allowed: float | None = None


@dataclass(frozen=True)
class Expected:
    """The behaviour that the edited file is expected to have.

    Attributes:
        edited: the head before and after.
        split: activations and labels of the images, in order.
        classes: names by folded output.
        label: the network's output that was audited alone, or None.
        rounding: unit roundoff of the file's type, for instance 2^-11 of float16.
    """

    edited: EditedHead
    split: ActivationSplit
    classes: tuple[str, ...]
    label: int | None
    rounding: float


def unit_roundoff(dtypes: Sequence[torch.dtype]) -> float:
    """Largest relative error of rounding to any of the types."""
    return max(torch.finfo(dtype).eps / 2 for dtype in dtypes)


def predict(expected: Expected) -> Verification:
    """Accuracies by activations alone."""
    return _tabulate(expected, None)


def run_model(
    classifier: Classifier, source: ImageSource, paths: Sequence[str], device: torch.device, settings: LoaderSettings
) -> Float[np.ndarray, "n k"]:
    """The network's outputs, in float32, for the images at `paths`.

    Raises:
        DataError: an image cannot be read any more.
        CheckpointError, HeadError: the forward pass fails, or returns no logits.
    """
    parts = []
    model = classifier.model.to(device)
    with exact_convolutions():
        for batch in build_loader(source, paths, classifier.transform, settings):
            if batch.skipped:
                index, reason = batch.skipped[0]
                raise DataError(str(paths[index]), f"could be read before, and not now ({reason})")
            parts.append(trace(model, (), batch.images.to(device), str(classifier.path)).output.cpu().numpy())
    return np.concatenate(parts)


def verify(expected: Expected, classifier: Classifier, outputs: Float[np.ndarray, "n k"]) -> Verification:
    """Compares the outputs of the written model with those that the edited head predicts.

    Every output must agree within `VERIFIED_WITHIN` of the largest logit, plus `TERM_ERROR` and the rounding of the
    file's type times the sum of all |weight x activation| in that logit: half precision alone makes that much.

    Args:
        expected: by activations.
        classifier: tells what the network does with its logits before it returns them.
        outputs: what the model in the file returned.

    Raises:
        NothingMeasuredError: they disagree; says how far, on how many images, and the accuracies of the worst class.
    """
    ending = classifier.reader.ending
    measured = outputs if expected.label is None else outputs[:, [expected.label]]
    is_single = measured.shape[1] == 1
    logits, spread = _logits(expected.edited.after, expected.split, is_single, expected.rounding)
    predicted = ENDINGS[ending](torch.from_numpy(logits)).numpy()
    allowed = STRETCH[ending] * spread.max(axis=1, keepdims=True)
    difference = np.where(np.isfinite(measured), np.abs(measured - predicted), np.inf)
    table = _tabulate(expected, are_correct(measured, expected.split.labels, ending))
    apart = (difference > allowed).any(axis=1)
    if apart.any():
        raise _disagree(table, difference, allowed, apart)
    row = int(difference.max(axis=1).argmax())
    return Verification(table.classes, float(difference[row].max()), float(allowed[row, 0]))


def _disagree(
    table: Verification, difference: np.ndarray, allowed: np.ndarray, apart: Bool[np.ndarray, " n"]
) -> NothingMeasuredError:
    row = int((difference / allowed).max(axis=1).argmax())
    worst = max(table.classes, key=lambda check: abs((check.measured or 0.0) - check.predicted))
    shares = f"{100 * worst.predicted:.1f} % predicted, {100 * (worst.measured or 0.0):.1f} % measured"
    why = (
        f"the model in the written file does not do what was predicted: for {int(apart.sum()):,} of {len(apart):,} "
        f"images its outputs differ, by up to {difference[row].max():.3g} where {allowed[row, 0]:.2g} is allowed "
        f"({worst.name}: {shares}); no file was left"
    )
    hint = "do other parts of the network use the head's tensors, or does its code change them on loading?"
    return NothingMeasuredError("edit", why, hint=hint)


def _logits(
    head: AffineHead, split: ActivationSplit, is_single: bool, rounding: float
) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """The network's logits by the folded head, and how far each may be off."""
    logits, spread = np.empty((2, len(split.labels), len(head.bias)))
    for start in range(0, len(logits), BATCH_ROWS):
        rows = slice(start, start + BATCH_ROWS)
        acts = np.asarray(split.acts[rows], dtype=np.float64)
        logits[rows] = head.logits(acts)
        spread[rows] = np.abs(acts) @ np.abs(head.weight).T + np.abs(head.bias)
    if is_single:  # audited as two classes, whose logits differ by the network's one
        logits, spread = logits[:, 1:] - logits[:, :1], spread.sum(axis=1, keepdims=True)
    return logits, VERIFIED_WITHIN * np.abs(logits).max(initial=0.0) + (TERM_ERROR + rounding) * spread


def are_correct(outputs: np.ndarray, labels: Int[np.ndarray, " n"], ending: str) -> Bool[np.ndarray, " n"]:
    """(n,) True where the label's output is above every other; ties count as wrong."""
    if outputs.shape[1] == 1:
        middle = 0.5 if ending == "sigmoid" else 0.0
        return np.where(labels == 1, outputs[:, 0] > middle, outputs[:, 0] < middle)
    own = outputs[np.arange(len(labels)), labels]
    is_first: np.ndarray = np.count_nonzero(outputs >= own[:, None], axis=1) == 1
    return is_first


def _tabulate(expected: Expected, measured: Bool[np.ndarray, " n"] | None) -> Verification:
    split = expected.split
    before, after = (_are_right(split, head) for head in (expected.edited.before, expected.edited.after))
    rows = []
    for index, name in enumerate(expected.classes):
        own = split.labels == index
        if own.any():
            measured_accuracy = None if measured is None else float(measured[own].mean())
            rows.append(
                ClassCheck(name, int(own.sum()), float(before[own].mean()), float(after[own].mean()), measured_accuracy)
            )
    return Verification(tuple(rows))


def _are_right(split: ActivationSplit, head: AffineHead) -> Bool[np.ndarray, " n"]:
    """(n,) True where the folded head is right."""
    starts = range(0, len(split.labels), BATCH_ROWS)
    blocks = [slice(start, start + BATCH_ROWS) for start in starts]
    parts = [
        are_correct(head.logits(np.asarray(split.acts[rows], np.float64)), split.labels[rows], "") for rows in blocks
    ]
    return np.concatenate(parts)
