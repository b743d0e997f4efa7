"""Cost of an edit of given strength: the other classes' accuracy, their distributions, the weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from salve_audit.interventions.affine import AffineHead, Intervention
from salve_audit.interventions.samples import EditedLogits
from salve_audit.interventions.search import class_events, find_least_strengths

AREA_STEPS = 10  # levels of suppression at which the area's integrand is measured


@dataclass(frozen=True)
class Matched:
    """One edit brought to each of the target accuracies.

    Attributes:
        strengths: (targets,).
        reached: (targets,) True where the class's accuracy is at most the target.
        correct: (targets, n) of all audit samples.
        accuracies: (targets, k) of all classes.
        area: under (target suppressed, others kept); nan where it was not computed.
    """

    strengths: Float[np.ndarray, " targets"]
    reached: Bool[np.ndarray, " targets"]
    correct: Bool[np.ndarray, "targets n"]
    accuracies: Float[np.ndarray, "targets k"]
    area: float


def match_accuracy(edited: EditedLogits, class_index: int, targets: Float[np.ndarray, " targets"]) -> Matched:
    """Search the strengths on the class's samples, then measure all samples at them.

    The area is ``∫₀¹ y(x) dx``: x is the relative suppression ``1 − accuracy(t) / accuracy(0)`` of the class, y(x)
    the other classes' mean accuracy at the smallest strength that suppresses by at least x, relative to their
    original one and at most 1; y = 0 where no strength suppresses as much. By the trapezoidal rule at
    x = 0, 0.1, …, 1, with y(0) = 1. Where the audit split is large (`AuditSamples.thinned`), y comes from a part of it
    for edits that need a matrix product per strength.
    """
    events = class_events(edited, class_index)
    original = float(events.correct.mean())
    suppression = np.linspace(0.0, 1.0, AREA_STEPS + 1)[1:]
    levels = np.concatenate([targets, original * (1.0 - suppression)])
    strengths, reached = find_least_strengths(events, levels, edited.intervention.max_strength)

    n = len(targets)
    # A product of the whole head per strength is worth all samples at the targets, but not at every step of the area.
    traced = edited if edited.factors is not None else edited.thinned()
    if traced is edited:
        correct = edited.correct(np.concatenate([strengths, [0.0]]))
        at_targets, at_steps = correct[:n], correct[n:]
    else:
        at_targets, at_steps = edited.correct(strengths[:n]), traced.correct(np.append(strengths[n:], 0.0))
    others = traced.samples.class_accuracies(at_steps)[:, traced.samples.others(class_index)].mean(axis=1)
    retained = np.minimum(others[:-1] / others[-1], 1.0) if others[-1] > 0 else np.ones(AREA_STEPS)
    curve = np.concatenate([[1.0], np.where(reached[n:], retained, 0.0)])
    return Matched(
        strengths=strengths[:n],
        reached=reached[:n],
        correct=at_targets,
        accuracies=edited.samples.class_accuracies(at_targets),
        area=float(((curve[1:] + curve[:-1]) / 2).mean()),
    )


def match_targets(edited: EditedLogits, class_index: int, targets: Float[np.ndarray, " targets"]) -> Matched:
    """Search the strengths and measure all samples at them, without the area."""
    events = class_events(edited, class_index)
    strengths, reached = find_least_strengths(events, targets, edited.intervention.max_strength)
    correct = edited.correct(strengths)
    return Matched(strengths, reached, correct, edited.samples.class_accuracies(correct), float("nan"))


@dataclass(frozen=True)
class Drift:
    """Change of the other classes' predictions; see `compute_drift`.

    Attributes:
        kl: mean KL(original ‖ edited) in nats.
        agreement: share whose originally predicted class still has the highest logit.
        accuracy: mean over the other classes that have any sample.
        n: samples behind these numbers.
    """

    kl: float
    agreement: float
    accuracy: float
    n: int


def compute_drift(edited: EditedLogits, class_index: int, strength: float) -> Drift:
    """The other classes' samples under an edit.

    From samples spread evenly over the classes where all of them are too many (`AuditSamples.thinned`).
    """
    edited = edited.thinned()
    samples = edited.samples
    n = samples.labels.size
    kl, agrees, right = np.empty(n), np.empty(n, dtype=bool), np.empty(n, dtype=bool)
    logits_of = edited.at(np.array([strength]))
    for rows in edited.blocks(1):
        before = samples.logits[:, rows]  # (k, rows)
        after = logits_of(rows)[0]
        kl[rows] = _divergence(before, after)
        logit_of_first = np.take_along_axis(after, before.argmax(axis=0)[None, :], axis=0)[0]
        agrees[rows] = logit_of_first >= after.max(axis=0)
        own = after[samples.labels[rows], np.arange(after.shape[1])]
        right[rows] = np.count_nonzero(after >= own, axis=0) == 1
    others = np.ones(n, dtype=bool)
    others[samples.rows_of(class_index)] = False
    n_others = int(others.sum())
    accuracy = samples.class_accuracies(right[None])[0, samples.others(class_index)].mean()
    return Drift(max(float(kl[others].mean()), 0.0), float(agrees[others].mean()), float(accuracy), n_others)


def relative_change(original: Float[np.ndarray, "*shape"], edited: Float[np.ndarray, "*shape"]) -> float:
    """``‖edited − original‖_F / ‖original‖_F`` of the weights, or of the biases; 0 where there are none."""
    size = float(np.linalg.norm(original))
    return float(np.linalg.norm(edited - original)) / size if size > 0 else 0.0


def head_change(intervention: Intervention, head: AffineHead, strength: float) -> tuple[float, float]:
    """`relative_change` of weights and biases at a strength; of a linear edit from its factors, without the head."""
    edit = intervention.factors
    if edit is None:
        edited = intervention.head(strength)
        return relative_change(head.weight, edited.weight), relative_change(head.bias, edited.bias)
    squared = float(((edit.left.T @ edit.left) * (edit.right @ edit.right.T)).sum())  # ‖left right‖²
    sizes = float(np.linalg.norm(head.weight)), float(np.linalg.norm(head.bias))
    changes = max(squared, 0.0) ** 0.5, float(np.linalg.norm(edit.bias))
    weight, bias = (strength * change / size if size > 0 else 0.0 for change, size in zip(changes, sizes, strict=True))
    return weight, bias


def _divergence(before: Float[np.ndarray, "k n"], after: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " n"]:
    """KL(softmax(before) ‖ softmax(after)) of every sample."""
    before, after = before - before.max(axis=0), after - after.max(axis=0)  # no exponential overflows
    share = np.exp(before)
    total = share.sum(axis=0)
    log_ratio = np.log(total) - np.log(np.exp(after).sum(axis=0))
    divergence: np.ndarray = (share * (before - after)).sum(axis=0) / total - log_ratio
    return divergence
