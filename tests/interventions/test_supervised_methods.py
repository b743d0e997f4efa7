"""Mean-difference steering, last-layer retraining, and LEACE beside its authors' package."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from salve_audit.interventions import leace, mean_difference, retraining
from salve_audit.interventions.comparison import ComparisonInputs
from salve_audit.interventions.context import EditContext, compute_fit_statistics


def test_mean_difference_moves_the_class_to_the_mean_of_the_rest(context: EditContext, world: ComparisonInputs) -> None:
    own = world.fit_labels == context.class_index
    acts = world.fit_acts.astype(np.float64)
    moved = acts - (acts[own].mean(axis=0) - acts[~own].mean(axis=0))
    np.testing.assert_allclose(moved[own].mean(axis=0), acts[~own].mean(axis=0))
    folded = mean_difference.steer_by_means(context).head(1.0)
    np.testing.assert_allclose(folded.logits(acts), context.head.logits(moved), rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(folded.weight, context.head.weight)


def test_a_class_alone_has_no_difference_of_means(context: EditContext, world: ComparisonInputs) -> None:
    own = world.fit_labels == context.class_index
    fit = compute_fit_statistics(world.fit_acts[own], world.fit_labels[own], len(world.class_names))
    alone = dataclasses.replace(context, fit=fit)
    np.testing.assert_array_equal(mean_difference.difference_vector(alone), 0.0)


class TestRetraining:
    def targets(self, context: EditContext, world: ComparisonInputs) -> tuple[np.ndarray, np.ndarray]:
        acts = world.fit_acts.astype(np.float64)
        logits = context.head.logits(acts)
        for i in np.flatnonzero(world.fit_labels == context.class_index):
            rivals = np.delete(np.arange(logits.shape[1]), context.class_index)
            best = rivals[logits[i, rivals].argmax()]
            if logits[i, best] < logits[i, context.class_index]:
                logits[i, [best, context.class_index]] = logits[i, [context.class_index, best]]
        return acts, logits

    def test_it_is_the_ridge_regression_to_the_relabelled_logits(
        self, context: EditContext, world: ComparisonInputs
    ) -> None:
        acts, targets = self.targets(context, world)
        n, d = acts.shape
        share, mean = context.fit.shrinkage, acts.mean(axis=0)
        spread = np.trace(np.cov(acts.T, bias=True)) / d
        # minimise (1 − δ) / n Σ ‖V a + v − (y' − y)‖² + δ m ‖V‖² over V and v, as one least-squares problem
        change = targets - context.head.logits(acts)
        centred = np.concatenate([np.sqrt((1 - share) / n) * (acts - mean), np.sqrt(share * spread) * np.eye(d)])
        goal = np.concatenate(
            [(change - change.mean(axis=0)) / np.sqrt((1 - share) * n), np.zeros((d, change.shape[1]))]
        )
        weight = np.linalg.lstsq(centred, goal, rcond=None)[0].T
        head = retraining.retrain(context).head(1.0)
        np.testing.assert_allclose(head.weight - context.head.weight, weight, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(
            head.bias - context.head.bias, change.mean(axis=0) - weight @ mean, rtol=1e-7, atol=1e-9
        )

    def test_only_the_class_and_its_rivals_change(self, context: EditContext, world: ComparisonInputs) -> None:
        acts, targets = self.targets(context, world)
        moved = np.abs(targets - context.head.logits(acts)).max(axis=0) > 1e-9
        head = retraining.retrain(context).head(1.0)
        np.testing.assert_array_equal(np.any(head.weight != context.head.weight, axis=1), moved)

    def test_samples_that_a_rival_already_wins_stay(self) -> None:
        change = retraining.exchange_logits(np.array([[1.0, 3.0, 2.0], [2.0, 1.0, 0.5]]), 0)
        np.testing.assert_array_equal(change, [[0.0, 0.0, 0.0], [-1.0, 1.0, 0.0]])
        np.testing.assert_array_equal(retraining.exchange_logits(np.array([[1.0]]), 0), [[0.0]])


@pytest.mark.parametrize("class_index", [0, 3])
def test_leace_is_that_of_the_authors_package(class_index: int, context: EditContext, world: ComparisonInputs) -> None:
    concept_erasure = pytest.importorskip("concept_erasure")
    torch = pytest.importorskip("torch")
    acts = torch.from_numpy(world.fit_acts.astype(np.float64))
    concept = torch.from_numpy((world.fit_labels == class_index).astype(np.int64))
    # Their default of shrinking the covariance is off here: ours is the sample's own.
    fitter = concept_erasure.LeaceFitter.fit(acts, concept, method="leace", shrinkage=False)
    audit = torch.from_numpy(world.audit_acts.astype(np.float64))
    theirs = fitter.eraser(audit).numpy()
    left, right = leace.projection_factors(context.fit, class_index)
    ours = audit.numpy() - np.outer((audit.numpy() - context.fit.mean) @ right, left)
    assert np.abs(theirs - audit.numpy()).max() > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-8)
