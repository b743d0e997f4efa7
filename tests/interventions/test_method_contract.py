"""What every method promises, run over all of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from salve_audit import config
from salve_audit.interventions import salve
from salve_audit.interventions.comparison import ComparisonInputs
from salve_audit.interventions.context import EditContext
from salve_audit.interventions.measure import relative_change
from salve_audit.interventions.registry import FEATURED, KEYED, METHODS

BUILDERS = {**METHODS, "salve-enhance": salve.enhance}
STRENGTHS = np.append(0.0, np.geomspace(0.05, 20.0, 25))  # in units
every_method = pytest.mark.parametrize("method", BUILDERS)


def test_the_registry_has_the_names_of_the_configuration() -> None:
    assert tuple(METHODS) == config.METHODS
    assert set(METHODS) >= KEYED | FEATURED


@every_method
def test_it_carries_its_name_and_a_range_of_strengths(method: str, context: EditContext) -> None:
    intervention = BUILDERS[method](context)
    assert intervention.method == method
    assert 0 < intervention.unit <= intervention.max_strength < np.inf


@pytest.mark.parametrize("method", METHODS)
def test_only_the_methods_that_say_so_act_on_a_feature(method: str, context: EditContext) -> None:
    assert (METHODS[method](context).feature is not None) == (method in FEATURED)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_may_go_as_far_in_its_own_units(method: str, context: EditContext) -> None:
    intervention = METHODS[method](context)
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


@pytest.mark.parametrize("method", [name for name in METHODS if not name.startswith("null")])
def test_an_ordinary_edit_takes_margin_from_the_class(
    method: str, context: EditContext, world: ComparisonInputs
) -> None:
    def margin(strength: float) -> float:
        logits = intervention.head(strength).logits(own)
        rivals = np.delete(logits, context.class_index, axis=1)
        return float((logits[:, context.class_index] - rivals.max(axis=1)).mean())

    intervention = METHODS[method](context)
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
    assert varies == method.startswith("null")


def test_importing_the_stage_loads_no_torch() -> None:
    code = "import sys, salve_audit.interventions; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
