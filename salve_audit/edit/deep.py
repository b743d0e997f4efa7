"""Edits of the layers before the head: their strengths and the new tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from salve_audit.activations.pictures import LoaderSettings, require_pictures
from salve_audit.edit.apply import AppliedStep
from salve_audit.edit.plan import Target
from salve_audit.edit.subject import Subject
from salve_audit.errors import UsageError
from salve_audit.interventions import float64_head
from salve_audit.interventions.deep.comparison import change_of_weights
from salve_audit.interventions.deep.effect import find_correct
from salve_audit.interventions.deep.network import DeepNetwork, Edits, edit_values
from salve_audit.interventions.deep.projection import Projection
from salve_audit.interventions.deep.search import search_strengths
from salve_audit.interventions.deep.stream import Scope, Stream, find_stream
from salve_audit.interventions.measure import relative_change

N_HALVINGS = 10  # of a step between strengths, for --to-accuracy
PROOF_PICTURES = 4


@dataclass(frozen=True)
class DeepEdit:
    """What changes before the head.

    Attributes:
        steps: with their strengths.
        scope: the layers edited.
        edits: the steps as projections in the stream.
        values: new values, float64, by the network's names.
        weight_change: ``‖W' − W‖_F / ‖W‖_F`` over the edited layers, BatchNorm folded in.
        bias_change: the same of the constants that they add.
    """

    steps: tuple[AppliedStep, ...]
    scope: Scope
    edits: Edits
    values: Mapping[str, np.ndarray]
    weight_change: float
    bias_change: float


def apply_deep_steps(targets: Sequence[Target], subject: Subject, settings: LoaderSettings) -> DeepEdit:
    """Projects the features out of what the layers write, in order.

    Raises:
        DeepEditError: no deep edit is known for the network, or for a feature.
        UsageError: an accuracy is asked for without pictures, or out of reach.
    """
    model = subject.classifier.model
    stream = find_stream(subject.classifier, _proof_batch(subject))
    scope = stream.scope(targets[0].step.method)
    edits: list[tuple[Projection, float]] = []
    steps = []
    for target in targets:
        projection = _project(target, stream, subject)
        strength = target.step.strength
        if strength is None:
            strength = _match(target, _Trial(stream, scope, edits, projection), subject, settings)
        edits.append((projection, -strength if target.step.enhance else strength))
        steps.append(AppliedStep(target, strength))
    values = edit_values(model, scope, edits)
    if not all(np.isfinite(value).all() for value in values.values()):
        raise UsageError("strength", "makes the weights infinite")
    before, after = (
        np.concatenate([writer.measure(model, given).constant for writer in scope.writers]) for given in (None, values)
    )
    weight_change = change_of_weights(model, scope, values)
    return DeepEdit(tuple(steps), scope, edits, values, weight_change, relative_change(before, after))


def _project(target: Target, stream: Stream, subject: Subject) -> Projection:
    sae, feature = subject.evidence.audit.sae, target.feature
    assert feature is not None, "a deep edit acts on a feature"
    rows = sae.dictionary[feature], sae.encoder_weight[feature]
    return stream.readout.pull_back(subject.classifier.model, *rows, feature)


def _proof_batch(subject: Subject) -> Tensor:
    """Pictures to prove the layers on; noise where there are none."""
    if subject.images is None:
        return torch.randn(PROOF_PICTURES, *subject.classifier.transform.input_size, generator=torch.Generator())
    chosen = np.linspace(0, len(subject.paths) - 1, min(PROOF_PICTURES, len(subject.paths))).astype(int)
    return _load(subject, [subject.paths[i] for i in chosen], LoaderSettings(PROOF_PICTURES, 0))


def _load(subject: Subject, paths: Sequence[str], settings: LoaderSettings) -> Tensor:
    assert subject.images is not None, "there are no pictures"
    return require_pictures(subject.images.pictures, paths, subject.classifier.transform, settings)


@dataclass(frozen=True)
class _Trial:
    """A projection to try after the edits made so far."""

    stream: Stream
    scope: Scope
    edits: Edits
    projection: Projection


def _match(target: Target, trial: _Trial, subject: Subject, settings: LoaderSettings) -> float:
    """The strength that brings the class down to the accuracy asked for, by runs of the network."""
    level, name, index = target.step.to_accuracy, target.step.class_name, target.class_index
    assert level is not None, "a step has a strength or an accuracy"
    assert index is not None, "an accuracy is one of a class"
    labels = np.zeros(0) if subject.evidence.splits is None else subject.evidence.splits[1].labels
    if subject.images is None:
        why = "of a deep edit is reached by runs of the network, which need pictures"
        raise UsageError("to-accuracy", why, hint="name the audit's pictures with --data DIR")
    rows = np.flatnonzero(labels == index)
    if not len(rows):
        raise UsageError("to-accuracy", f"{name!r} has no pictures to audit")
    network = DeepNetwork(subject.classifier, trial.stream, torch.device("cpu"))
    (incoming,) = network.enter([trial.scope], _load(subject, [subject.paths[row] for row in rows], settings))
    head, own = float64_head(subject.evidence.head), labels[rows]

    def accuracy(strength: float) -> float:
        acts = network.run_edited(trial.scope, incoming, [*trial.edits, (trial.projection, strength)])
        return float(find_correct(head.logits(acts).T, own).mean())

    ((strength, reached),) = search_strengths(accuracy, [level], N_HALVINGS)
    if not reached:
        why = f"no strength of {target.step.method} brings {name!r} down to {100 * level:g} %"
        lowest = f"the lowest found is {100 * accuracy(strength):.1f} %, at {strength:g}"
        raise UsageError("to-accuracy", f"{why}; {lowest}", hint="deep-all-writers or an edit of the head goes further")
    if strength == 0:
        raise UsageError("to-accuracy", f"{name!r} is at {100 * level:g} % or below already")
    return strength
