"""Concepts removed at a layer: projections that the audit left, moved into the weights of the layer's readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from salve_audit.activations.images import LoaderSettings
from salve_audit.audit.saved import SavedAudit
from salve_audit.edit.apply import AppliedStep
from salve_audit.edit.matching import Runs, match_strength, verification_batch
from salve_audit.edit.plan import Target
from salve_audit.edit.subject import EditSubject
from salve_audit.errors import DeepEditError, LayerError, ResultError, UsageError
from salve_audit.evidence.concept_file import FILE, SavedProjections, load_projections
from salve_audit.evidence.probe import watch_network
from salve_audit.evidence.projection import ConceptProjection, combine
from salve_audit.interventions.measure import relative_change
from salve_audit.interventions.registry import ALL_WRITERS
from salve_audit.spatial.readers import FoldableLayer, require_foldable_layer

BATCH_ROWS = 64
AGAIN = "audit the model again (without --evidence off), which leaves it"
INSTEAD = f"edit features instead: --class NAME with SALVE at the head, or --method {ALL_WRITERS.key} before it"


@dataclass(frozen=True)
class ConceptEdit:
    """A concept's removal: the new weights of the modules that read a layer.

    Attributes:
        steps: with their strengths.
        place: the layer and its readers.
        matrix: (d, d) what the layer's channels are multiplied by.
        values: new weights, float64, by the network's names.
        weight_change: ``‖W' − W‖_F / ‖W‖_F`` over the readers.
        notes: for the edit record.
    """

    steps: tuple[AppliedStep, ...]
    place: FoldableLayer
    matrix: np.ndarray
    values: Mapping[str, np.ndarray]
    weight_change: float
    notes: Mapping[str, Any] = field(default_factory=dict)
    bias_change: float = 0.0  # a projection has no constant

    def hooked(self, model: nn.Module) -> AbstractContextManager[nn.Module]:
        """The network with its own weights, and a hook on the layer in place of new ones."""
        return self.place.changing(model, self.matrix)


def apply_concept_steps(targets: Sequence[Target], subject: EditSubject, settings: LoaderSettings) -> ConceptEdit:
    """Takes the concepts out of what the layer's readers see, one after another.

    Raises:
        ResultError: the audit left no projections, or of another model.
        DeepEditError: it could make none of the concept, or none for this network.
        UsageError: an accuracy is asked for without images, or out of reach.
    """
    saved = read_projections(subject.evidence.audit)
    projections = [_choose(target, saved, subject.evidence.audit) for target in targets]
    place = _find_place(saved, subject)
    d = place.layer.layout.channels
    if any(projection.directions.shape[1] != d for projection in projections):
        raise ResultError(FILE, f"is for a layer of other width, {place.layer.name} has {d} channels")
    removals: list[tuple[ConceptProjection, float]] = []
    steps = []
    for target, projection in zip(targets, projections, strict=True):
        strength = target.step.strength
        if strength is None:
            strength = _match(target, _Trial(place, tuple(removals), projection), subject, settings)
        removals.append((projection, -strength if target.step.enhance else strength))
        steps.append(AppliedStep(target, strength))
    matrix = combine(removals)
    values = place.fold(subject.classifier.model, matrix)
    if not all(np.isfinite(value).all() for value in values.values()):
        raise UsageError("strength", "makes the weights infinite")
    notes = {"layer": place.layer.name, "rank": [projection.rank for projection in projections]}
    return ConceptEdit(tuple(steps), place, matrix, values, _measure_change(subject.classifier.model, values), notes)


def read_projections(audit: SavedAudit) -> SavedProjections:
    """The projections that the audit wrote next to audit.json.

    Raises:
        ResultError: nothing, or something damaged, or of another audit.
        DeepEditError: it could make no projection; says why.
    """
    file = audit.folder / FILE
    if not file.is_file():
        why = f"has no {FILE}: an earlier version made this audit, or image reliance was not measured"
        raise ResultError(str(audit.folder), why, hint=AGAIN)
    saved, audited = load_projections(file), audit.result.provenance.model_sha256
    if saved.hashes.get("model_sha256") != audited:
        raise ResultError(str(file), "is of another model than audit.json beside it", hint=AGAIN)
    if not saved.concepts.projections:
        raise DeepEditError("--concept", f"no concept can be removed: {saved.concepts.why_absent}", hint=INSTEAD)
    concepts = audit.result.concepts
    if any(index >= len(concepts) or concepts[index].class_name != name for index, name in saved.classes.items()):
        raise ResultError(str(file), "is of another audit than audit.json beside it", hint=AGAIN)
    return saved


def _choose(target: Target, saved: SavedProjections, audit: SavedAudit) -> ConceptProjection:
    assert target.concept is not None, "a concept edit acts on a concept"
    projection = saved.concepts.projections.get(target.concept)
    if projection is None:
        known = ", ".join(f"{index} ({saved.classes[index]})" for index in sorted(saved.classes))
        what = f"concept {target.concept} (of {audit.result.concepts[target.concept].class_name})"
        why = "has no projection: the audit makes one for the region that a class depends on most, in up to 20 classes"
        raise DeepEditError(what, why, hint=f"there are: {known}")
    return projection


def _find_place(saved: SavedProjections, subject: EditSubject) -> FoldableLayer:
    images, trace = verification_batch(subject), subject.layers.trace
    try:
        return require_foldable_layer(subject.classifier, images, saved.concepts.layer, trace)
    except LayerError as error:
        raise DeepEditError(error.what, error.why, hint=INSTEAD) from error


def _measure_change(model: nn.Module, values: Mapping[str, np.ndarray]) -> float:
    before = [model.get_parameter(name).detach().double().cpu().numpy().ravel() for name in values]
    return relative_change(
        np.concatenate(before), np.concatenate([values_of_tensor.ravel() for values_of_tensor in values.values()])
    )


@dataclass(frozen=True)
class _Trial:
    """A projection to try after those made so far."""

    place: FoldableLayer
    removals: tuple[tuple[ConceptProjection, float], ...]
    projection: ConceptProjection


def _match(target: Target, trial: _Trial, subject: EditSubject, settings: LoaderSettings) -> float:
    """The strength that brings the concept's class down to the accuracy asked for, by runs of the network."""

    def prepare(images: Tensor) -> Runs:
        def run(strength: float) -> np.ndarray:
            matrix = combine([*trial.removals, (trial.projection, strength)])
            with trial.place.changing(subject.classifier.model, matrix):
                return _run(subject, trial.place, images)

        return run

    return match_strength(target, subject, settings, prepare)


def _run(subject: EditSubject, place: FoldableLayer, images: Tensor) -> np.ndarray:
    """Logits (n, k), float64, of the head as it was audited."""
    with torch.no_grad(), watch_network(subject.classifier, place.layer, subject.evidence.head) as probe:
        parts = [probe(batch).logits.double().numpy() for batch in torch.split(images, BATCH_ROWS)]
    return np.concatenate(parts)
