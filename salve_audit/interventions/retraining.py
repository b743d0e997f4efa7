"""Last-layer retraining: refit the head to the fit split with the class's samples relabelled to their best rival.

The strong baseline: it uses the labels of the split, all of its samples, and as many rows of the head as it needs. The
refit is to the head's own logits, with the class's logit and that of the best rival exchanged on the samples of the
class (where the class is ahead), and as they are on all other samples; by ridge regression, so that it has a closed
form and is linear in the change Y' − Y of the logits:

``W' − W = Cov(Y' − Y, a) S⁻¹``, ``b' − b = mean(Y' − Y) − (W' − W) μ``

with S the shrunk covariance of the activations. The edit is ``W + t (W' − W)``, ``b + t (b' − b)``.

Source: deep feature reweighting (arXiv 2204.02937) retrains the last layer on cached activations by logistic
regression; relabelling to the best rival as for unlearning a class.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from salve_audit.interventions.affine import Intervention, LinearEdit, linear_intervention
from salve_audit.interventions.context import EditContext
from salve_audit.interventions.registry import RETRAINING


def retrain(context: EditContext) -> Intervention:
    """The refit; its right factor holds the rows of W' − W that are not zero, those of the class and its rivals."""
    fit, index = context.fit, context.class_index
    own = np.asarray(fit.acts[np.flatnonzero(fit.labels == index)], dtype=np.float64)  # (n_class, d)
    change = exchange_logits(context.head.logits(own), index)  # (n_class, k)
    rows = np.union1d(np.flatnonzero(change.any(axis=0)), [index])
    moved = change[:, rows].T / fit.n  # (r, n_class)
    right = fit.solve_covariance((moved @ (own - fit.mean)).T).T  # (r, d)
    left = np.zeros((len(context.head.bias), len(rows)))
    left[rows, np.arange(len(rows))] = 1.0
    edit = LinearEdit(left=left, right=right, bias=left @ (moved.sum(axis=1) - right @ fit.mean))
    return linear_intervention(RETRAINING.key, context.head, edit)


def exchange_logits(logits: Float[np.ndarray, "n k"], class_index: int) -> Float[np.ndarray, "n k"]:
    """(n, k) change of the logits when the class and its best rival change places; 0 where a rival is ahead."""
    change = np.zeros_like(logits)
    if logits.shape[1] < 2:
        return change
    rivals = logits.copy()
    rivals[:, class_index] = -np.inf
    best, rows = rivals.argmax(axis=1), np.arange(len(logits))
    lead = np.maximum(logits[:, class_index] - rivals[rows, best], 0.0)
    change[rows, best] = lead
    change[:, class_index] = -lead
    return change
