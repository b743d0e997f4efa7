"""A deep edit verified: the network in the written file against the audited one with hooks in place of new weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from salve_audit.activations.images import LoaderSettings
from salve_audit.edit.concept import ConceptEdit
from salve_audit.edit.deep import DeepEdit
from salve_audit.edit.subject import EditSubject
from salve_audit.edit.verify import ClassCheck, Verification, are_correct, run_model
from salve_audit.errors import NothingMeasuredError
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.verification import VERIFIED_WITHIN
from salve_audit.interventions.context import float64_head
from salve_audit.interventions.deep.network import edited


@dataclass(frozen=True)
class Passes:
    """Settings for running the networks over the audit's images."""

    device: torch.device
    loading: LoaderSettings

    def run(self, classifier: Classifier, subject: EditSubject) -> Float[np.ndarray, "n k"]:
        """The network's outputs, those of the one label where that was audited alone."""
        assert subject.images is not None, "there are no images"
        outputs = run_model(classifier, subject.images.reader, subject.paths, self.device, self.loading)
        return outputs if subject.label is None else outputs[:, [subject.label]]


def verify_deep(
    edit: DeepEdit | ConceptEdit,
    subject: EditSubject,
    written: Classifier,
    dtypes: Sequence[torch.dtype],
    passes: Passes,
) -> Verification:
    """Runs the written network, and the audited one with every edited layer's output projected by hooks.

    The hooks know nothing of folded BatchNorms, biases and files. Every output must agree within `VERIFIED_WITHIN` of
    the largest, plus twice what rounding to the file's type alone does, measured where the type is not float32.

    Args:
        deep: the edit.
        subject: the audited network and images.
        written: the network in the file.
        dtypes: of the new values in the file, in their order.
        passes: how to run.

    Raises:
        NothingMeasuredError: they disagree; says how far and on how many images.
    """
    classifier = subject.classifier
    model = classifier.model
    with edit.hooked(model):
        predicted = passes.run(classifier, subject)
    measured = passes.run(written, subject)
    allowed = np.full((len(predicted), 1), VERIFIED_WITHIN * np.abs(predicted).max())
    if any(torch.finfo(dtype).eps > torch.finfo(torch.float32).eps for dtype in dtypes):
        rounded = _round(edit.values, dtypes)  # from what was asked for, not from the file, which is on trial
        exact, coarse = (_run_with(values, subject, passes) for values in (edit.values, rounded))
        allowed = allowed + 2 * np.abs(exact - coarse).max(axis=1, keepdims=True)
    difference = np.where(np.isfinite(measured), np.abs(measured - predicted), np.inf)
    classes = _tabulate(subject, predicted, measured)
    n_apart = int(np.count_nonzero((difference > allowed).any(axis=1)))
    if n_apart:
        why = (
            f"the model in the written file does not do what was predicted: for {n_apart:,} of "
            f"{len(predicted):,} images its outputs differ, by up to {difference.max():.3g}; no file was left"
        )
        hint = "do other parts of the network use the edited tensors, or does its code change them on loading?"
        raise NothingMeasuredError("edit", why, hint=hint)
    row = int(difference.max(axis=1).argmax())
    return Verification(classes, float(difference[row].max()), float(allowed[row, 0]))


def _round(values: Mapping[str, np.ndarray], dtypes: Sequence[torch.dtype]) -> dict[str, np.ndarray]:
    pairs = zip(values.items(), dtypes, strict=True)
    return {name: torch.from_numpy(value).to(dtype).double().numpy() for (name, value), dtype in pairs}


def _run_with(values: Mapping[str, np.ndarray], subject: EditSubject, passes: Passes) -> Float[np.ndarray, "n k"]:
    with edited(subject.classifier.model, dict(values)):
        return passes.run(subject.classifier, subject)


def _tabulate(subject: EditSubject, predicted: np.ndarray, measured: np.ndarray) -> tuple[ClassCheck, ...]:
    evidence, ending = subject.evidence, subject.classifier.reader.ending
    assert evidence.splits is not None, "images that were run have activations"
    labels = evidence.splits[1].labels
    before = are_correct(
        float64_head(evidence.head).logits(np.asarray(evidence.splits[1].acts, np.float64)), labels, ""
    )
    right = [before, *(are_correct(outputs, labels, ending) for outputs in (predicted, measured))]
    rows = []
    for index, name in enumerate(evidence.audit.result.data.classes):
        own = labels == index
        if own.any():
            rows.append(ClassCheck(name, int(own.sum()), *(float(correct[own].mean()) for correct in right)))
    return tuple(rows)
