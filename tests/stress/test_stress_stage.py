"""The records of the stage, recomputed the slow way from edited heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from salve_audit.interventions.affine import AffineHead
from salve_audit.interventions.context import float64_head
from salve_audit.results import Stress
from salve_audit.results.schema import to_dict
from salve_audit.stress import population, recovery, stage
from salve_audit.stress.composition import draw_chains, edit_in_turn
from salve_audit.stress.enhancement import KEPT
from salve_audit.stress.intervals import change_bounds, mean_bounds, wilson_bounds
from salve_audit.stress.matched_edits import MatchedEdits
from salve_audit.stress.recovery import median_bounds
from salve_audit.stress.stage import StressInputs, StressOutcome, stress_edits


@pytest.fixture(scope="module")
def outcome(inputs: StressInputs) -> StressOutcome:
    return stress_edits(inputs)


@pytest.fixture(scope="module")
def stress(outcome: StressOutcome) -> Stress:
    return outcome.stress


def _accuracies(inputs: StressInputs, head: AffineHead) -> np.ndarray:
    acts, labels = inputs.compared.audit_acts.astype(np.float64), inputs.compared.audit_labels
    logits = head.logits(acts)
    own = logits[np.arange(len(labels)), labels]
    right = (logits >= own[:, None]).sum(axis=1) == 1
    return np.array([right[labels == i].mean() for i in range(len(inputs.compared.class_names))])


def _scaled(inputs: StressInputs, feature: int, alpha_hat: float) -> AffineHead:
    """Enhanced by a positive α̂, suppressed by a negative one."""
    head = float64_head(inputs.compared.head)
    coupling = np.abs(inputs.compared.dictionary[feature].astype(np.float64))
    return AffineHead(head.weight * np.maximum(0.0, 1.0 + alpha_hat * coupling / coupling.max()), head.bias)


def test_the_stage_is_deterministic(inputs: StressInputs, outcome: StressOutcome) -> None:
    again = stress_edits(inputs)
    assert again == outcome
    to_dict(again.stress)  # refuses what is not finite


def test_enhancement_equals_edited_heads(inputs: StressInputs, stress: Stress) -> None:
    assert len(stress.enhancement) == 7
    for curve in stress.enhancement[:3]:
        index = inputs.compared.class_names.index(curve.class_name)
        for i in (0, 1, 9, 16):
            accuracies = _accuracies(inputs, _scaled(inputs, curve.feature, curve.alpha_hat[i]))
            assert curve.accuracy[i] == pytest.approx(accuracies[index])
            assert curve.others[i] == pytest.approx(np.delete(accuracies, index).mean())
            assert curve.low[i] <= curve.accuracy[i] <= curve.high[i]
            assert curve.others_low[i] <= curve.others[i] <= curve.others_high[i]


def test_kept_until_is_where_the_first_of_them_falls(inputs: StressInputs, stress: Stress) -> None:
    methods = set()
    for curve in stress.enhancement:
        methods.add(curve.lost_by)
        if curve.kept_until is None:
            continue
        index = inputs.compared.class_names.index(curve.class_name)
        before = _accuracies(inputs, _scaled(inputs, curve.feature, 0.0))
        just_after = _accuracies(inputs, _scaled(inputs, curve.feature, curve.kept_until * (1 + 1e-9)))
        others = np.arange(7) != index
        falls = {
            "class": just_after[index] < KEPT * before[index],
            "others": just_after[others].mean() < KEPT * before[others].mean() - 1e-12,
        }
        assert falls[curve.lost_by]
        for alpha_hat in np.linspace(0, curve.kept_until * (1 - 1e-9), 25):
            accuracies = _accuracies(inputs, _scaled(inputs, curve.feature, alpha_hat))
            assert accuracies[index] >= KEPT * before[index] - 1e-12
            assert accuracies[others].mean() >= KEPT * before[others].mean() - 1e-12
    assert "others" in methods


def test_sweeps_equal_edited_heads(inputs: StressInputs, outcome: StressOutcome) -> None:
    swept = [feature for feature in outcome.features if feature.sweep is not None]
    assert {feature.index for feature in swept} == {feature.index for feature in inputs.features if feature.cross_class}
    assert swept
    for feature in swept[:3]:
        assert feature.sweep is not None
        for i in range(0, len(feature.sweep.alpha_hat), 3):
            accuracies = _accuracies(inputs, _scaled(inputs, feature.index, feature.sweep.alpha_hat[i]))
            np.testing.assert_allclose([c.accuracy[i] for c in feature.sweep.classes], accuracies, atol=1e-6)
        strongest = int(np.argmax(np.abs(inputs.codes[:, feature.index])))
        assert feature.sweep.images[0].path == inputs.audit.paths[strongest]
        assert feature.entangled == any(each.alpha_hat < 0 for each in feature.sweep.opposed)
        for each in feature.sweep.moves:
            at = feature.sweep.alpha_hat.index(each.alpha_hat)
            before = feature.sweep.alpha_hat.index(0.0)
            change = {c.class_name: c.accuracy[at] - c.accuracy[before] for c in feature.sweep.classes}
            assert all(change[name] < 0 for name in each.falls)
            assert all(change[name] > 0 for name in each.rises)


def test_matched_edits_are_those_of_the_comparison(inputs: StressInputs) -> None:
    """Null controls draw anew in every context: the same stream must give the same edit."""
    edits = MatchedEdits(inputs.compared, inputs.results, inputs.seed)
    assert edits.target == 0.05
    checked = set()
    for result in inputs.results:
        index = inputs.compared.class_names.index(result.class_name)
        if result.target_accuracy == 0.05 and result.reached:
            accuracies = _accuracies(inputs, edits.edit(result.method, index))
            assert accuracies[index] == pytest.approx(result.reached_accuracy)
            assert np.delete(accuracies, index).mean() == pytest.approx(result.others_accuracy)
            checked.add(result.method)
        else:
            assert result.target_accuracy != 0.05 or not edits.reaches(result.method, index)
    assert {"salve", "null-random", "rome"} <= checked


def test_scaling_columns_commutes_and_projecting_does_not(inputs: StressInputs, stress: Stress) -> None:
    commutes = {composition.method: composition.commutes for composition in stress.composition}
    assert commutes["salve"]
    assert commutes["steering"]
    assert commutes["row-scaling"]
    assert not commutes["ablation"]
    edits = MatchedEdits(inputs.compared, inputs.results, inputs.seed)
    there, back = (edit_in_turn(edits, "salve", order)[-1] for order in ((0, 1, 2), (2, 1, 0)))
    np.testing.assert_allclose(there.weight, back.weight, rtol=1e-14)
    assert (there.weight == 0).any()  # clamped columns are among them


def test_composition_equals_edited_heads(inputs: StressInputs, stress: Stress) -> None:
    edits = MatchedEdits(inputs.compared, inputs.results, inputs.seed)
    for chain in (c for c in stress.chains if c.method in ("salve", "ablation")):
        classes = [inputs.compared.class_names.index(name) for name in chain.class_names]
        assert len(classes) == 5
        others = np.setdiff1d(np.arange(7), classes)
        heads = [edits.head, *edit_in_turn(edits, chain.method, classes)]
        for step, head in zip(chain.steps, heads, strict=True):
            accuracies = _accuracies(inputs, head)
            assert step.others == pytest.approx(accuracies[others].mean())
            assert step.change == pytest.approx(step.others - chain.steps[0].others)
            assert step.low <= step.others <= step.high
            assert step.change_low <= step.change <= step.change_high
            if step.n_edits:
                assert step.edited == pytest.approx(accuracies[classes[: step.n_edits]].mean())
    assert [o.n_edits for o in stress.chains[0].orders] == [2, 5]
    fragile = [chain for chain in stress.chains if chain.fragile]
    assert all(chain.class_names == stress.class_names[:5] for chain in fragile)


def test_removed_outputs_are_never_predicted(stress: Stress) -> None:
    removed = next(composition for composition in stress.composition if composition.method == "output-removed")
    assert [step.edited for step in removed.steps[1:]] == [0.0] * 5
    assert all(step.change >= 0 for step in removed.steps)  # fewer rivals can only help the others
    assert (removed.gap, removed.gap_low, removed.gap_high) == (0.0, 0.0, 0.0)
    last = {(chain.method, chain.class_names): chain.steps[-1].others for chain in stress.chains}
    for composition in stress.composition:
        own = [names for method, names in last if method == composition.method]
        assert composition.gap == pytest.approx(
            np.mean([last[composition.method, c] - last["output-removed", c] for c in own])
        )
        assert composition.gap_low <= composition.gap <= composition.gap_high


def test_recovery_counts_every_image_once(inputs: StressInputs, stress: Stress) -> None:
    by_method = {method_recovery.method: method_recovery for method_recovery in stress.recovery}
    assert next(iter(by_method)) == "unedited"
    salve = by_method["salve"]
    assert salve.n + salve.n_kept <= 7 * stress.n_per_class
    assert salve.n > 0
    assert salve.low is not None
    assert salve.median is not None
    assert salve.high is not None
    assert salve.low <= salve.median <= salve.high
    shares = [share.share for share in salve.shares]
    assert shares == sorted(shares)
    assert sum(class_record.n for class_record in salve.classes) == salve.n


def test_without_methods_there_is_enhancement_alone(make_inputs: Callable[..., StressInputs]) -> None:
    stress = stress_edits(make_inputs(methods=())).stress
    assert stress.target_accuracy is None
    assert stress.enhancement
    assert not stress.composition
    assert not stress.recovery


def test_large_problems_are_cut_and_say_so(inputs: StressInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(population, "MAX_CLASSES", 3)
    monkeypatch.setattr(population, "MAX_WORK", 1.0)
    monkeypatch.setattr(population, "FEW", 4)
    monkeypatch.setattr(recovery, "PER_CLASS", 6)
    monkeypatch.setattr(stage, "SWEEP_BUDGET", 0.0)
    monkeypatch.setattr(stage, "LEAST_SWEPT", 1)
    outcome = stress_edits(inputs)
    assert len(outcome.stress.class_names) == 3
    assert outcome.stress.n_classes_left_out == 4
    assert outcome.stress.n_samples == 3 * 40 + 4 * 4
    assert outcome.stress.n_sweeps_left_out == sum(feature.cross_class for feature in inputs.features) - 1
    assert all(method_recovery.n + method_recovery.n_kept <= 18 for method_recovery in outcome.stress.recovery)


def test_chains_leave_a_class_to_drift(inputs: StressInputs) -> None:
    head = float64_head(inputs.compared.head)
    rng = np.random.default_rng(0)
    everyone = population.choose_population(
        inputs.compared.audit_acts, inputs.compared.audit_labels, head, inputs.classes, rng
    )
    two = np.isin(inputs.compared.audit_labels, (0, 1))
    few = population.choose_population(
        inputs.compared.audit_acts[two], inputs.compared.audit_labels[two], head, inputs.classes[:2], rng
    )
    assert draw_chains(few, 3, rng) == []
    chains = draw_chains(everyone, 3, rng)
    assert chains[0].classes == everyone.classes[:5]
    assert all(len(set(chain.classes)) == 5 for chain in chains)


def test_a_world_of_two_classes_is_enhanced_but_not_combined(inputs: StressInputs) -> None:
    rows = np.isin(inputs.compared.audit_labels, (0, 1))
    compared = dataclasses.replace(
        inputs.compared, audit_acts=inputs.compared.audit_acts[rows], audit_labels=inputs.compared.audit_labels[rows]
    )
    cut = dataclasses.replace(
        inputs,
        compared=compared,
        classes=inputs.classes[:2],
    )
    stress = stress_edits(cut).stress
    assert len(stress.enhancement) == 2
    assert stress.composition == ()


def test_strongest_images_are_of_all_images_where_edits_are_compared_on_a_part(
    inputs: StressInputs, outcome: StressOutcome
) -> None:
    part = slice(None, None, 3)
    compared = inputs.compared
    some = dataclasses.replace(compared, audit_acts=compared.audit_acts[part], audit_labels=compared.audit_labels[part])
    features = stress_edits(dataclasses.replace(inputs, compared=some)).features
    swept = [(a.sweep, b.sweep) for a, b in zip(features, outcome.features, strict=True) if a.sweep and b.sweep]
    assert swept
    assert all(a.images == b.images for a, b in swept)


def test_wilson_is_scipys() -> None:
    from scipy.stats import binomtest

    for hits, n in ((0, 10), (3, 17), (500, 500), (250, 1000)):
        low, high = wilson_bounds(np.array([hits / n]), np.array([float(n)]))
        other = binomtest(hits, n).proportion_ci(0.95, method="wilson")
        assert (low[0], high[0]) == pytest.approx((other.low, other.high), abs=1e-12)


def test_interval_of_a_mean_covers_what_binomials_do() -> None:
    rng = np.random.default_rng(0)
    truth, counts = np.array([0.95, 0.7, 0.99, 0.85]), np.array([40, 60, 80, 30])
    shares = rng.binomial(counts, truth, size=(2000, 4)) / counts
    _, low, high = mean_bounds(shares, counts)
    covered = ((low <= truth.mean()) & (truth.mean() <= high)).mean()
    assert 0.92 < covered < 0.99


def test_interval_of_a_paired_change_covers() -> None:
    rng = np.random.default_rng(1)
    n, lose, gain = 120, 0.08, 0.03
    moved = rng.multinomial(n, [lose, gain, 1 - lose - gain], size=3000)
    low, high = change_bounds(moved[:, 0], moved[:, 1], np.full(3000, n))
    assert 0.93 < ((low <= gain - lose) & (gain - lose <= high)).mean() < 0.98
    wide = change_bounds(moved[:, 0], moved[:, 1], np.full(3000, n), n_tests=50)
    assert (wide[0] < low).all()
    assert (wide[1] > high).all()


def test_median_bounds_cover_and_may_be_open() -> None:
    rng = np.random.default_rng(2)
    hits = [low <= np.log(2) <= high for _, low, high in (median_bounds(rng.exponential(size=31)) for _ in range(800))]
    assert 0.94 < np.mean(hits) < 0.99
    assert median_bounds(np.array([])) == (None, None, None)
    assert median_bounds(np.array([1.0, 2.0])) == (1.5, None, None)
    median, low, high = median_bounds(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, np.inf, np.inf, np.inf]))
    assert (median, low, high) == (0.5, 0.2, None)
