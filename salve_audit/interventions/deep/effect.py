"""Effect of an edit on the images of a subset, from the logits before and after; for every kind of edit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import log_softmax

from salve_audit.interventions.bootstrap import draw_others
from salve_audit.interventions.samples import AuditSamples


@dataclass(frozen=True, eq=False)
class EditEffect:
    """Effect of an edit on the images of a subset.

    Attributes:
        own: accuracy of the edited class.
        others: mean accuracy of the other classes, and `worst` the lowest of any.
        kl, agreement: on the other classes' images: mean KL(before ‖ after) in nats, share of unchanged predictions.
        draws: (n_draws,) `others` under the shared bootstrap.
    """

    own: float
    others: float
    worst: float
    kl: float
    agreement: float
    draws: Float[np.ndarray, " n_draws"]


def find_correct(logits: Float[np.ndarray, "k n"], labels: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """True where the label's logit is above every other; ties count as wrong."""
    own = logits[labels, np.arange(len(labels))]
    return np.asarray(np.count_nonzero(logits >= own, axis=0) == 1)


def measure_effect(
    samples: AuditSamples, index: int, after: Float[np.ndarray, "k n"], weights: Float[np.ndarray, "n_draws n"]
) -> EditEffect:
    """The effect of an edit of class `index` that makes of the samples' logits those `after`.

    Args:
        samples: sorted by class, with their logits before.
        index: the edited class.
        after: logits with the edit.
        weights: of the bootstrap.
    """
    correct = find_correct(after, samples.labels)
    accuracies = samples.class_accuracies(correct[None])[0]
    present = samples.others(index)
    others = np.ones(len(samples.labels), dtype=bool)
    others[samples.rows_of(index)] = False
    before, edited = samples.logits[:, others], after[:, others]
    left, right = log_softmax(before, axis=0), log_softmax(edited, axis=0)
    return EditEffect(
        own=float(accuracies[index]),
        others=float(accuracies[present].mean()),
        worst=float(accuracies[present].min()),
        kl=max(float((np.exp(left) * (left - right)).sum(axis=0).mean()), 0.0),
        agreement=float((before.argmax(axis=0) == edited.argmax(axis=0)).mean()),
        draws=draw_others(weights, correct[None], samples, index)[:, 0],
    )
