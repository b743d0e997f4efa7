"""What every method promises, run over all of them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from salve_audit.config import AuditConfig
from salve_audit.interventions import salve
from salve_audit.interventions.comparison import ComparisonInputs, ComparisonSettings
from salve_audit.interventions.context import EditContext, compute_fit_statistics
from salve_audit.interventions.measure import relative_change
from salve_audit.interventions.registry import METHODS, SALVE, YARDSTICK, Need, Role, is_null

BUILDERS = {**{key: method.build for key, method in METHODS.items()}, "salve-enhance": salve.enhance}
STRENGTHS = np.append(0.0, np.geomspace(0.05, 20.0, 25))  # in units
every_method = pytest.mark.parametrize("method", BUILDERS)


def test_every_role_that_only_one_method_may_have_is_held_by_one() -> None:
    assert [method for method in METHODS.values() if method.role is Role.SALVE] == [SALVE]
    assert [method for method in METHODS.values() if method.yardstick] == [YARDSTICK]


def test_all_methods_are_compared_unless_told_otherwise() -> None:
    assert AuditConfig("model", "data").interventions == ComparisonSettings().methods == tuple(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_only_the_methods_that_say_so_are_piecewise_linear(method: str, context: EditContext) -> None:
    assert (METHODS[method].build(context).coupling is not None) == METHODS[method].coupled


@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_does_not_need_does_not_change_it(
    method: str, world: ComparisonInputs, build_context: Callable[..., EditContext]
) -> None:
    record, context = METHODS[method], build_context(world)
    nothing = np.full_like(context.key, np.nan)
    changed = {
        Need.KEY: {"key": nothing},
        Need.CODES: {"mean_codes": np.full_like(context.mean_codes, np.nan)},
        Need.ACTIVATIONS: {"fit": compute_fit_statistics(nothing[None, :], np.zeros(1, np.int64), 1)},
        Need.FEATURE: {"feature": (context.feature + 1) % len(context.alive)},
        Need.CLASS: {"class_index": (context.class_index + 1) % len(context.head.bias)},
    }
    expected = record.build(build_context(world)).head(0.5)
    for need in set(Need) - record.needs:
        head = record.build(dataclasses.replace(build_context(world), **changed[need])).head(0.5)
        np.testing.assert_array_equal(head.weight, expected.weight)
        np.testing.assert_array_equal(head.bias, expected.bias)


@every_method
def test_it_carries_its_name_and_a_range_of_strengths(method: str, context: EditContext) -> None:
    intervention = BUILDERS[method](context)
    assert intervention.method == method
    assert 0 < intervention.unit <= intervention.max_strength < np.inf


@pytest.mark.parametrize("method", METHODS)
def test_only_the_methods_that_say_so_act_on_a_feature(method: str, context: EditContext) -> None:
    assert (METHODS[method].build(context).feature is not None) == METHODS[method].featured


@pytest.mark.parametrize("method", METHODS)
def test_every_method_may_go_as_far_in_its_own_units(method: str, context: EditContext) -> None:
    intervention = METHODS[method].build(context)
    if intervention.coupling is None:
        assert intervention.max_strength == pytest.approx(1e6 * intervention.unit)
    else:  # nothing is left to remove beyond
        assert not intervention.head(intervention.max_strength).weight[:, intervention.coupling > 0].any()


@every_method
def test_strength_zero_is_bitwise_the_original_head(method: str, context: EditContext) -> None:
    head = BUILDERS[method](context).head(0.0)
    assert head.weight.tobytes() == context.head.weight.tobytes()
    assert head.bias.tobytes() == context.head.bias.tobytes()


@every_method
def test_the_given_head_is_never_changed(method: str, context: EditContext) -> None:
    weight, bias = context.head.weight.copy(), context.head.bias.copy()
    intervention = BUILDERS[method](context)
    for strength in np.append(STRENGTHS * intervention.unit, intervention.max_strength):
        head = intervention.head(float(strength))
        assert head.weight.shape == weight.shape
        assert head.bias.shape == bias.shape
        assert head.weight.dtype == head.bias.dtype == np.float64
        assert np.isfinite(head.weight).all()
        assert np.isfinite(head.bias).all()
    assert context.head.weight.tobytes() == weight.tobytes()
    assert context.head.bias.tobytes() == bias.tobytes()


@every_method
def test_the_head_moves_further_with_the_strength(method: str, context: EditContext) -> None:
    intervention = BUILDERS[method](context)
    heads = [intervention.head(float(s)) for s in STRENGTHS * intervention.unit]
    before = context.head
    change = [relative_change(before.weight, h.weight) + relative_change(before.bias, h.bias) for h in heads]
    assert change[0] == 0
    assert change[1] > 0
    assert np.all(np.diff(change) >= 0)


@every_method
def test_the_factors_of_a_linear_edit_give_its_dense_head(
    method: str, context: EditContext, world: ComparisonInputs
) -> None:
    intervention = BUILDERS[method](context)
    edit, t = intervention.factors, 0.7 * intervention.unit
    if edit is None:
        curved = intervention.head(2.0).weight - 2 * intervention.head(1.0).weight + context.head.weight
        assert np.abs(curved).max() > 1e-3 or method == "salve-enhance"
        return
    acts = world.audit_acts.astype(np.float64)
    shifted = context.head.logits(acts) + t * (acts @ edit.right.T @ edit.left.T + edit.bias)
    np.testing.assert_allclose(intervention.head(t).logits(acts), shifted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("method", [name for name in METHODS if not is_null(name)])
def test_an_ordinary_edit_takes_margin_from_the_class(
    method: str, context: EditContext, world: ComparisonInputs
) -> None:
    def margin(strength: float) -> float:
        logits = intervention.head(strength).logits(own)
        rivals = np.delete(logits, context.class_index, axis=1)
        return float((logits[:, context.class_index] - rivals.max(axis=1)).mean())

    intervention = METHODS[method].build(context)
    own = world.audit_acts[world.audit_labels == context.class_index].astype(np.float64)
    margins = [margin(t * intervention.unit) for t in (0.0, 0.25, 0.5, 1.0)]
    assert np.all(np.diff(margins) < 0)


@every_method
def test_the_same_seed_gives_the_same_edit(
    method: str, world: ComparisonInputs, build_context: Callable[..., EditContext]
) -> None:
    def weight(seed: int) -> np.ndarray:
        return BUILDERS[method](build_context(world, seed=seed)).head(0.5).weight

    first = weight(0)
    np.testing.assert_array_equal(first, weight(0))
    varies = any(not np.array_equal(first, weight(seed)) for seed in range(1, 6))
    assert varies == is_null(method)


def test_importing_the_stage_loads_no_torch() -> None:
    code = "import sys, salve_audit.interventions.matched; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
