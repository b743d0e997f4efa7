"""INLP against the definition done the slow way: project the samples, fit a ridge regression, look at held-out ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from salve_audit.interventions import inlp
from salve_audit.interventions.comparison import ComparisonInputs
from salve_audit.interventions.context import EditContext, compute_fit_statistics


def slow_directions(context: EditContext, acts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Every round anew: project all samples, fit by least squares in the projected space, judge on every fifth."""
    d, own = acts.shape[1], labels == context.class_index
    held = np.zeros(len(labels), dtype=bool)
    for k in np.unique(labels):
        held[np.flatnonzero(labels == k)[4::5]] = True
    share = context.fit.shrinkage
    basis = np.zeros((d, 0))
    for _ in range(inlp.MAX_DIRECTIONS):
        rest = np.linalg.svd(np.eye(d) - basis @ basis.T)[0][:, : d - basis.shape[1]]  # what is left of the space
        covariance = np.cov(acts[~held].T, bias=True)
        ridged = (1 - share) * covariance + share * np.trace(covariance) / d * np.eye(d)
        means = [acts[~held & side].mean(axis=0) @ rest for side in (own, ~own)]
        normal = np.linalg.solve(rest.T @ ridged @ rest, means[0] - means[1])
        scores, threshold = acts @ rest @ normal, normal @ (means[0] + means[1]) / 2
        right = [np.mean(scores[held & own] > threshold), np.mean(scores[held & ~own] <= threshold)]
        error = 0.5 * np.sqrt(0.25 / np.sum(held & own) + 0.25 / np.sum(held & ~own))
        if basis.shape[1] and np.mean(right) <= 0.5 + 2.0 * error:
            break
        basis = np.column_stack([basis, rest @ normal / np.linalg.norm(normal)])
    return basis


@pytest.mark.parametrize("class_index", [0, 1, 4])
def test_the_directions_are_those_of_the_definition(
    class_index: int, world: ComparisonInputs, build_context: Callable[..., EditContext]
) -> None:
    context = build_context(world, class_index=class_index)
    directions = inlp.find_directions(context.fit.held_out, class_index)
    expected = slow_directions(context, world.fit_acts.astype(np.float64), world.fit_labels)
    assert directions.shape == expected.shape
    np.testing.assert_allclose(directions.T @ directions, np.eye(directions.shape[1]), atol=1e-12)
    np.testing.assert_allclose(np.abs(directions.T @ expected), np.eye(directions.shape[1]), atol=1e-6)


def test_more_than_one_direction_is_found_where_there_is_more_than_one(
    build_context: Callable[..., EditContext], world: ComparisonInputs
) -> None:
    counts = {
        inlp.find_directions(build_context(world, class_index=i).fit.held_out, i).shape[1]
        for i in range(len(world.class_names))
    }
    assert max(counts) > 1
    assert max(counts) <= inlp.MAX_DIRECTIONS


def test_the_folded_head_reads_the_projected_activations(context: EditContext, world: ComparisonInputs) -> None:
    acts = world.audit_acts.astype(np.float64)
    basis = inlp.find_directions(context.fit.held_out, context.class_index)
    intervention = inlp.project_out(context)
    for t in (0.4, 1.0, 3.0):
        projected = acts - t * acts @ basis @ basis.T
        np.testing.assert_allclose(
            intervention.head(t).logits(acts), context.head.logits(projected), rtol=1e-9, atol=1e-10
        )


def test_a_class_that_cannot_be_distinguished_is_left_alone(context: EditContext, world: ComparisonInputs) -> None:
    acts = np.ones_like(world.fit_acts)
    fit = compute_fit_statistics(acts, world.fit_labels, len(world.class_names))
    same = dataclasses.replace(context, fit=fit)
    np.testing.assert_array_equal(inlp.project_out(same).head(1.0).weight, context.head.weight)


def test_a_class_with_few_samples_gets_one_direction(context: EditContext, world: ComparisonInputs) -> None:
    keep = np.concatenate(
        [np.flatnonzero(world.fit_labels != 1), np.flatnonzero(world.fit_labels == 1)[:3]]
    )  # none of them is held out
    fit = compute_fit_statistics(world.fit_acts[keep], world.fit_labels[keep], len(world.class_names))
    assert not np.any(fit.held_out.labels == 1)
    assert inlp.find_directions(fit.held_out, 1).shape == (world.fit_acts.shape[1], 1)
