"""Edits of the layers before the head: their strengths and the new tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from salve_audit.activations.images import LoaderSettings
from salve_audit.edit.apply import AppliedStep
from salve_audit.edit.matching import Runs, match_strength, verification_batch
from salve_audit.edit.plan import Target
from salve_audit.edit.subject import EditSubject
from salve_audit.errors import UsageError
from salve_audit.interventions.context import float64_head
from salve_audit.interventions.deep.comparison import change_of_weights
from salve_audit.interventions.deep.network import DeepNetwork, Edits, edit_values, hooked
from salve_audit.interventions.deep.projection import Projection
from salve_audit.interventions.deep.stream import ResidualStream, Scope, find_stream
from salve_audit.interventions.measure import relative_change


@dataclass(frozen=True)
class DeepEdit:
    """A deep edit: the new values of the layers before the head.

    Attributes:
        steps: with their strengths.
        scope: the layers edited.
        edits: the steps as projections in the stream.
        values: new values, float64, by the network's names.
        weight_change: ``‖W' − W‖_F / ‖W‖_F`` over the edited layers, BatchNorm folded in.
        bias_change: the same of the constants that they add.
        notes: for the edit record.
    """

    steps: tuple[AppliedStep, ...]
    scope: Scope
    edits: Edits
    values: Mapping[str, np.ndarray]
    weight_change: float
    bias_change: float
    notes: Mapping[str, Any] = field(default_factory=dict)

    def hooked(self, model: nn.Module) -> AbstractContextManager[nn.Module]:
        """The network with its own weights, and hooks in place of new ones."""
        return hooked(model, self.scope, self.edits)


def apply_deep_steps(targets: Sequence[Target], subject: EditSubject, settings: LoaderSettings) -> DeepEdit:
    """Projects the features out of what the layers write, in order.

    Raises:
        DeepEditError: no deep edit is known for the network, or for a feature.
        UsageError: an accuracy is asked for without images, or out of reach.
    """
    model = subject.classifier.model
    stream = find_stream(subject.classifier, verification_batch(subject))
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


def _project(target: Target, stream: ResidualStream, subject: EditSubject) -> Projection:
    sae, feature = subject.evidence.audit.sae, target.feature
    assert feature is not None, "a deep edit acts on a feature"
    rows = sae.dictionary[feature], sae.encoder_weight[feature]
    return stream.readout.pull_back(subject.classifier.model, *rows, feature)


@dataclass(frozen=True)
class _Trial:
    """A projection to try after the edits made so far."""

    stream: ResidualStream
    scope: Scope
    edits: Edits
    projection: Projection


def _match(target: Target, trial: _Trial, subject: EditSubject, settings: LoaderSettings) -> float:
    """The strength that brings the class down to the accuracy asked for, by runs of the network."""
    head = float64_head(subject.evidence.head)

    def prepare(images: Tensor) -> Runs:
        network = DeepNetwork(subject.classifier, trial.stream, torch.device("cpu"))
        (incoming,) = network.enter([trial.scope], images)
        return lambda strength: head.logits(
            network.run_edited(trial.scope, incoming, [*trial.edits, (trial.projection, strength)])
        )

    return match_strength(target, subject, settings, prepare)
