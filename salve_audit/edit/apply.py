"""Steps to an edited head, one after another, each with the strength that it was given or that an accuracy asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from salve_audit.edit.evidence import EditEvidence
from salve_audit.edit.plan import Target
from salve_audit.errors import UsageError
from salve_audit.interventions.affine import AffineHead, Intervention
from salve_audit.interventions.context import EditContext, compute_fit_statistics, float64_head
from salve_audit.interventions.measure import relative_change
from salve_audit.interventions.registry import METHODS, SALVE, Need
from salve_audit.interventions.rome import choose_key
from salve_audit.interventions.samples import edit_logits, sort_samples
from salve_audit.interventions.search import class_events, find_least_strengths
from salve_audit.interventions.streams import open_stream
from salve_audit.reliance.margins import MarginEvents

# Just beyond the root a sample lies on the border, and the rounding of the file's numbers may put it on either side.
# The strength goes on towards the next root, where accuracy is the same and every sample is farther from the border.
MOST_BEYOND = 0.01  # of the strength


@dataclass(frozen=True)
class AppliedStep:
    """One step as it was done.

    Attributes:
        target: what was asked for.
        strength: in the method's unit; positive, also where it enhances.
    """

    target: Target
    strength: float


@dataclass(frozen=True)
class EditedHead:
    """The folded head before and after all steps, float64."""

    before: AffineHead
    after: AffineHead
    steps: tuple[AppliedStep, ...]

    @property
    def weight_change(self) -> float:
        """``‖W' − W‖_F / ‖W‖_F``."""
        return relative_change(self.before.weight, self.after.weight)

    @property
    def bias_change(self) -> float:
        """``‖b' − b‖ / ‖b‖``."""
        return relative_change(self.before.bias, self.after.bias)


def apply_steps(targets: Sequence[Target], evidence: EditEvidence) -> EditedHead:
    """Applies the steps in order, each to the head that the one before left.

    Raises:
        UsageError: a step needs activations that are not at hand, has nothing to act on, or cannot reach its accuracy.
    """
    before = head = float64_head(evidence.head)
    steps = []
    for target in targets:
        intervention = _intervene(target, head, evidence)
        strength = target.step.strength
        if strength is None:
            strength = _match(target, head, intervention, evidence)
        head = _edited(target, intervention, strength)
        if not (np.isfinite(head.weight).all() and np.isfinite(head.bias).all()):
            raise UsageError("strength", f"{strength:g} makes the head's weights infinite")
        steps.append(AppliedStep(target, strength))
    return EditedHead(before, head, tuple(steps))


def _intervene(target: Target, head: AffineHead, evidence: EditEvidence) -> Intervention:
    method = METHODS[target.step.method]
    context = _context(target, head, evidence)
    made = method.build_enhancement(context) if target.step.enhance and method.enhancer else method.build(context)
    if made is None:
        raise UsageError("method", f"{method.key} has nothing to act on here")
    return made


def _edited(target: Target, intervention: Intervention, strength: float) -> AffineHead:
    if target.step.enhance and not METHODS[target.step.method].enhancer:
        assert intervention.coupling is None, "an edit that is linear in its strength has another direction"
        return intervention.head(-strength)
    return intervention.head(strength)


def _context(target: Target, head: AffineHead, evidence: EditEvidence) -> EditContext:
    method, index = METHODS[target.step.method], target.class_index
    key = np.full(evidence.head.d, np.nan)  # spoils whatever should read it after all
    mean_codes = np.broadcast_to(np.nan, (evidence.head.n_classes, evidence.audit.sae.n_latents))
    if method.without_activations:
        fit = compute_fit_statistics(key[None, :], np.zeros(1, np.int64), 1)
    else:
        assert index is not None, f"{method.key} needs a class"
        split = evidence.fit_split(method.key)
        members = np.flatnonzero(split.labels == index)
        if not len(members):
            raise UsageError("class", f"{target.step.class_name!r} has no images to fit, which {method.key} needs")
        fit, key = evidence.statistics, choose_key(np.asarray(split.acts), members)
    if Need.CODES in method.needs:
        mean_codes = evidence.mean_codes(index, target.feature)
    return EditContext(
        head=head,
        class_index=index or 0,
        feature=target.feature or 0,
        dominant=evidence.dominant,
        dictionary=evidence.audit.sae.dictionary,
        mean_codes=mean_codes,
        alive=evidence.alive,
        fit=fit,
        key=key,
        rng=open_stream(evidence.audit.result.seed, method.key, index or 0),
    )


def _match(target: Target, head: AffineHead, intervention: Intervention, evidence: EditEvidence) -> float:
    """The strength that brings the class down to the accuracy asked for, exactly, on the audit's samples."""
    level, name, index = target.step.to_accuracy, target.step.class_name, target.class_index
    assert level is not None, "a step has a strength or an accuracy"
    assert index is not None, "an accuracy is one of a class"
    split = evidence.audit_split("to-accuracy")
    if not np.any(split.labels == index):
        raise UsageError("to-accuracy", f"{name!r} has no images to audit")
    samples = sort_samples(np.asarray(split.acts), split.labels, head)
    (edited,) = edit_logits(samples, [intervention])
    events = class_events(edited, index)
    strengths, reached = find_least_strengths(events, np.array([level]), intervention.max_strength)
    strength = float(strengths[0])
    if not reached[0]:
        correct = edited.correct(strengths)[0, samples.rows_of(index)]
        why = f"no strength of {target.step.method} brings {name!r} down to {100 * level:g} %"
        raise UsageError("to-accuracy", f"{why}; the lowest is {100 * correct.mean():.1f} %, at {strength:g}")
    if strength == 0:
        raise UsageError("to-accuracy", f"{name!r} is at {100 * level:g} % or below already")
    return _away_from_the_border(strength, events, intervention.max_strength)


def _away_from_the_border(strength: float, events: MarginEvents, limit: float) -> float:
    """Half-way on to the next root, at most 1 % farther; the accuracy in between is the same."""
    roots: Float[np.ndarray, " e"] = np.concatenate([events.down, events.up])
    beyond = roots[roots > strength]
    following = float(beyond.min()) if len(beyond) else np.inf
    farther = min((strength + following) / 2, strength * (1 + MOST_BEYOND), limit)
    return max(farther, strength)


def describe_steps(steps: Sequence[AppliedStep], classes: Sequence[str]) -> tuple[str, ...]:
    """The edits for the user, one line per step."""
    return tuple(_describe(step, classes) for step in steps)


def _describe(step: AppliedStep, classes: Sequence[str]) -> str:
    unit = "alpha_hat" if step.target.step.method == SALVE.key else "strength"
    target_accuracy = step.target.step.to_accuracy
    why = "" if target_accuracy is None else f" (to {100 * target_accuracy:g} %)"
    return f"{step.target.describe(classes)}, {unit} {step.strength:.6g}{why}"
