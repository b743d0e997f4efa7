"""Each method against its equation, worked out the slow way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from scipy import linalg

from salve_audit.interventions import ablation, leace, nulls, rome, row_scaling, salve, steering
from salve_audit.interventions.comparison import ComparisonInputs
from salve_audit.interventions.context import EditContext, compute_fit_statistics


@pytest.mark.parametrize("alpha_hat", [0.3, 1.0, 2.5])
def test_salve_scales_every_weight_by_its_coupling(context: EditContext, alpha_hat: float) -> None:
    coupling = np.abs(context.dictionary[context.feature].astype(np.float64))
    alpha = alpha_hat / coupling.max()
    suppressed, enhanced = salve.suppress(context).head(alpha_hat), salve.enhance(context).head(alpha_hat)
    for k in range(context.head.weight.shape[0]):
        for j in range(context.head.weight.shape[1]):
            weight = context.head.weight[k, j]
            rounding = 8 * np.finfo(np.float64).eps * abs(weight)
            assert suppressed.weight[k, j] == pytest.approx(weight * max(0.0, 1 - alpha * coupling[j]), abs=rounding)
            assert enhanced.weight[k, j] == pytest.approx(weight * (1 + alpha * coupling[j]))
    np.testing.assert_array_equal(suppressed.bias, context.head.bias)


def test_salve_does_not_depend_on_the_scale_of_the_dictionary(context: EditContext) -> None:
    rescaled = dataclasses.replace(context, dictionary=context.dictionary * np.float32(8.0))
    for strength in (0.5, 3.0):
        np.testing.assert_allclose(
            salve.suppress(context).head(strength).weight, salve.suppress(rescaled).head(strength).weight, rtol=1e-12
        )


def test_the_largest_strength_of_salve_leaves_no_coupled_weight(context: EditContext) -> None:
    intervention = salve.suppress(context)
    assert not intervention.head(intervention.max_strength).weight.any()
    assert intervention.head(0.99 * intervention.max_strength).weight.any()


def test_salve_without_any_coupling_changes_nothing(context: EditContext) -> None:
    dead = dataclasses.replace(context, dictionary=np.zeros_like(context.dictionary))
    np.testing.assert_array_equal(salve.suppress(dead).head(5.0).weight, context.head.weight)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_steering_is_the_activation_shift_folded_into_the_bias(
    context: EditContext, world: ComparisonInputs, sign: float
) -> None:
    signed = dataclasses.replace(context, mean_codes=sign * np.abs(context.mean_codes))
    acts, beta = world.audit_acts.astype(np.float64), 1.7
    steered = acts - sign * beta * context.dictionary[context.feature].astype(np.float64)
    head = steering.steer(signed).head(beta)
    np.testing.assert_allclose(head.logits(acts), context.head.logits(steered), rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(head.weight, context.head.weight)


@pytest.mark.parametrize("build", [rome.rome, rome.rome_cov])
def test_rome_puts_the_key_at_minus_ten_and_leaves_its_other_logits(
    build: Callable[[EditContext], rome.Intervention], context: EditContext
) -> None:
    before = context.head.logits(context.key[None])[0]
    after = build(context).head(1.0).logits(context.key[None])[0]
    expected = before.copy()
    expected[context.class_index] = -10.0
    np.testing.assert_allclose(after, expected, rtol=1e-10, atol=1e-10)


def test_rome_paper_differs_from_rome_by_the_bias_counted_twice(context: EditContext) -> None:
    key = context.key
    difference = rome.rome_paper(context).head(1.0).weight - rome.rome(context).head(1.0).weight
    np.testing.assert_allclose(difference, -np.outer(context.head.bias, key) / (key @ key), atol=1e-14)
    missed = rome.rome_paper(context).head(1.0).logits(key[None]) - rome.rome(context).head(1.0).logits(key[None])
    np.testing.assert_allclose(missed[0], -context.head.bias, atol=1e-12)


def test_rome_cov_moves_along_the_inverse_second_moment(context: EditContext, world: ComparisonInputs) -> None:
    acts = world.fit_acts.astype(np.float64)
    second = acts.T @ acts / len(acts)
    flat = np.trace(second) / second.shape[0] * np.eye(second.shape[0])
    noise = np.mean([((np.outer(act, act) - second) ** 2).sum() for act in acts]) / len(acts)
    share = noise / ((second - flat) ** 2).sum()
    assert 1e-4 < share < 0.1
    assert context.fit.shrinkage == pytest.approx(share)
    along = np.linalg.inv((1 - share) * second + share * flat) @ context.key
    change = rome.rome_cov(context).head(1.0).weight - context.head.weight
    residual = -10.0 - context.head.logits(context.key[None])[0, context.class_index]
    np.testing.assert_allclose(
        change[context.class_index], residual * along / (context.key @ along), rtol=1e-8, atol=1e-10
    )
    # What the covariance is for: the same key, with less done to typical activations.
    plain = rome.rome(context).head(1.0).weight - context.head.weight
    assert np.mean((acts @ change.T) ** 2) < np.mean((acts @ plain.T) ** 2)


def test_the_shrinkage_is_the_one_that_comes_nearest_to_the_truth() -> None:
    scales = np.linspace(1.0, 3.0, 30)
    truth = np.diag(scales**2)

    def distances(share_factor: float) -> float:
        errors, rng = [], np.random.default_rng(0)  # the same samples for every factor
        for _ in range(60):
            acts = np.asarray(rng.normal(size=(40, 30)) * scales, dtype=np.float32)
            fit = compute_fit_statistics(acts, np.zeros(40, dtype=np.int64), 1)
            share = min(1.0, share_factor * fit.shrinkage)
            flat = np.trace(fit.second_moment) / 30 * np.eye(30)
            errors.append((((1 - share) * fit.second_moment + share * flat - truth) ** 2).sum())
        return float(np.mean(errors))

    at_rule = distances(1.0)
    assert all(distances(factor) > at_rule for factor in (0.0, 0.5, 2.0))


@pytest.mark.parametrize("n", [1, 7])
def test_the_second_moment_can_be_solved_however_few_the_samples(n: int) -> None:
    acts = np.ones((n, 12), dtype=np.float32)  # no spread at all, so that no shrinkage is estimated
    acts[:, 5] = 0.0
    fit = compute_fit_statistics(acts, np.zeros(n, dtype=np.int64), 1)
    along = fit.solve_second_moment(acts[0].astype(np.float64))
    assert np.isfinite(along).all()
    assert along @ acts[0] > 0


def test_the_key_is_the_sample_closest_to_its_class_mean(world: ComparisonInputs) -> None:
    members = np.flatnonzero(world.fit_labels == 2)
    own = world.fit_acts[members].astype(np.float64)
    distances = [np.linalg.norm(act - own.mean(axis=0)) for act in own]
    np.testing.assert_array_equal(rome.choose_key(world.fit_acts, members), own[int(np.argmin(distances))])


def test_drawn_keys_are_distinct_samples_of_the_class(world: ComparisonInputs) -> None:
    members = np.flatnonzero(world.fit_labels == 2)
    keys = rome.draw_keys(world.fit_acts, members, 10, np.random.default_rng(0))
    own = {act.tobytes() for act in world.fit_acts[members].astype(np.float64)}
    assert len({key.tobytes() for key in keys} & own) == 10
    assert len(rome.draw_keys(world.fit_acts, members[:3], 10, np.random.default_rng(0))) == 3


def test_nothing_along_the_ablated_direction_reaches_the_logits(context: EditContext, world: ComparisonInputs) -> None:
    direction = context.dictionary[context.feature].astype(np.float64)
    head = ablation.ablate(context).head(1.0)
    np.testing.assert_allclose(head.weight @ direction, 0.0, atol=1e-13)
    acts = world.audit_acts.astype(np.float64)
    np.testing.assert_allclose(head.logits(acts + 100.0 * direction), head.logits(acts), rtol=1e-9, atol=1e-9)
    unit = direction / np.linalg.norm(direction)
    projected = context.head.weight @ (np.eye(len(unit)) - 0.4 * np.outer(unit, unit))
    np.testing.assert_allclose(ablation.ablate(context).head(0.4).weight, projected, atol=1e-13)


def test_row_scaling_touches_one_row(context: EditContext) -> None:
    head, own = row_scaling.scale_row(context).head(0.25), context.class_index
    np.testing.assert_allclose(head.weight[own], 0.75 * context.head.weight[own], rtol=1e-14)
    assert head.bias[own] == pytest.approx(0.75 * context.head.bias[own])
    rest = np.arange(len(head.bias)) != own
    np.testing.assert_array_equal(head.weight[rest], context.head.weight[rest])
    np.testing.assert_array_equal(head.bias[rest], context.head.bias[rest])


def test_the_permuted_null_keeps_the_coupling_and_loses_its_place(context: EditContext) -> None:
    def scales(head_weight: np.ndarray) -> np.ndarray:
        return (head_weight / context.head.weight)[0]

    real = scales(salve.suppress(context).head(0.8).weight)
    permuted = scales(nulls.suppress_permuted(context).head(0.8).weight)
    np.testing.assert_allclose(np.sort(real), np.sort(permuted), rtol=1e-9)
    assert np.abs(real - permuted).max() > 0.05


def test_the_random_null_takes_a_latent_that_dominates_no_class(
    world: ComparisonInputs, build_context: Callable[..., EditContext]
) -> None:
    drawn = {nulls.suppress_random(build_context(world, seed=seed)).feature for seed in range(40)}
    assert drawn == set(range(len(world.features), len(world.dictionary)))


def test_the_random_null_takes_no_latent_that_never_fires(
    world: ComparisonInputs, build_context: Callable[..., EditContext]
) -> None:
    alive = world.alive.copy()
    alive[[5, 6, 8, 9]] = False
    dead = dataclasses.replace(world, alive=alive)
    assert {nulls.suppress_random(build_context(dead, seed=seed)).feature for seed in range(40)} == {7, 10, 11}
    alive[5:] = False
    assert nulls.suppress_random(build_context(dataclasses.replace(world, alive=alive))) is None


class TestLeace:
    def erased(self, context: EditContext, acts: np.ndarray) -> np.ndarray:
        left, right = leace.projection_factors(context.fit, context.class_index)
        return np.asarray(acts - np.outer((acts - context.fit.mean) @ right, left))

    def test_it_is_the_formula_of_the_paper(self, context: EditContext, world: ComparisonInputs) -> None:
        acts = world.fit_acts.astype(np.float64)
        concept = (world.fit_labels == context.class_index).astype(np.float64)
        mean, covariance = acts.mean(axis=0), np.cov(acts.T, bias=True)
        cross = (acts - mean).T @ (concept - concept.mean()) / len(acts)
        root = np.real(linalg.sqrtm(covariance))
        whitened = np.linalg.inv(root) @ cross[:, None]
        projection = root @ (whitened @ np.linalg.pinv(whitened)) @ np.linalg.inv(root)
        erased = acts - (acts - mean) @ projection.T
        np.testing.assert_allclose(self.erased(context, acts), erased, rtol=1e-8, atol=1e-9)

    def test_no_linear_trace_of_the_class_is_left(self, context: EditContext, world: ComparisonInputs) -> None:
        acts = world.fit_acts.astype(np.float64)
        concept = (world.fit_labels == context.class_index).astype(np.float64)
        design = np.column_stack([acts, np.ones(len(acts))])
        assert np.abs(np.linalg.lstsq(design, concept, rcond=None)[0][:-1]).max() > 0.01
        erased = self.erased(context, acts)
        gap = erased[concept == 1].mean(axis=0) - erased[concept == 0].mean(axis=0)
        np.testing.assert_allclose(gap, 0.0, atol=1e-12)
        # Centred, since the erased activations lie in a plane that the intercept could stand in for.
        centred = erased - erased.mean(axis=0)
        weights = np.linalg.lstsq(centred, concept - concept.mean(), rcond=1e-10)[0]
        np.testing.assert_allclose(weights, 0.0, atol=1e-10)

    def test_the_folded_head_reads_the_erased_activations(self, context: EditContext, world: ComparisonInputs) -> None:
        acts = world.audit_acts.astype(np.float64)
        folded = leace.erase(context).head(1.0).logits(acts)
        np.testing.assert_allclose(folded, context.head.logits(self.erased(context, acts)), rtol=1e-9, atol=1e-9)
        half = leace.erase(context).head(0.5).logits(acts)
        np.testing.assert_allclose(half, (folded + context.head.logits(acts)) / 2, rtol=1e-9, atol=1e-9)

    def test_dead_and_doubled_coordinates_do_no_harm(self, context: EditContext, world: ComparisonInputs) -> None:
        acts = world.fit_acts.copy()
        acts[:, 3] = 0.0
        acts[:, 5] = acts[:, 4]
        fit = compute_fit_statistics(acts, world.fit_labels, len(world.class_names))
        singular = dataclasses.replace(context, fit=fit)
        erased = self.erased(singular, acts.astype(np.float64))
        own = world.fit_labels == context.class_index
        np.testing.assert_allclose(erased[own].mean(axis=0), erased[~own].mean(axis=0), atol=1e-9)
        assert np.abs(erased - acts).max() < 10 * np.abs(acts).max()


def test_fit_statistics_are_the_moments(world: ComparisonInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salve_audit.interventions.context.BLOCK_ROWS", 37)
    acts = world.fit_acts.astype(np.float64)
    fit = compute_fit_statistics(world.fit_acts, world.fit_labels, len(world.class_names) + 1)
    np.testing.assert_allclose(fit.mean, acts.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(fit.second_moment, acts.T @ acts / len(acts), rtol=1e-12)
    np.testing.assert_allclose(fit.class_means[2], acts[world.fit_labels == 2].mean(axis=0), rtol=1e-12)
    assert np.isnan(fit.class_means[-1]).all()
    centred = (acts - acts.mean(axis=0)).T @ ((world.fit_labels == 2) - (world.fit_labels == 2).mean()) / len(acts)
    np.testing.assert_allclose(fit.cross_covariance(2), centred, atol=1e-12)
    np.testing.assert_allclose(fit.covariance_pinv @ np.cov(acts.T, bias=True), np.eye(acts.shape[1]), atol=1e-8)
