"""The records of the stage, recomputed the slow way from edited heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from salve_audit.interventions.affine import AffineHead
from salve_audit.interventions.context import float64_head
from salve_audit.records import to_dict
from salve_audit.results import Stress
from salve_audit.stress import StressInputs, StressOutcome, population, recovery, stage, stress_edits
from salve_audit.stress.composition import draw_chains, edit_in_turn
from salve_audit.stress.enhancement import KEPT
from salve_audit.stress.intervals import change_bounds, mean_bounds, wilson_bounds
from salve_audit.stress.matched_edits import MatchedEdits
from salve_audit.stress.recovery import median_bounds


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
    for one in stress.enhancement[:3]:
        index = inputs.compared.class_names.index(one.class_name)
        for i in (0, 1, 9, 16):
            found = _accuracies(inputs, _scaled(inputs, one.feature, one.alpha_hat[i]))
            assert one.accuracy[i] == pytest.approx(found[index])
            assert one.others[i] == pytest.approx(np.delete(found, index).mean())
            assert one.low[i] <= one.accuracy[i] <= one.high[i]
            assert one.others_low[i] <= one.others[i] <= one.others_high[i]


def test_kept_until_is_where_the_first_of_them_falls(inputs: StressInputs, stress: Stress) -> None:
    seen = set()
    for one in stress.enhancement:
        seen.add(one.lost_by)
        if one.kept_until is None:
            continue
        index = inputs.compared.class_names.index(one.class_name)
        before = _accuracies(inputs, _scaled(inputs, one.feature, 0.0))
        just_after = _accuracies(inputs, _scaled(inputs, one.feature, one.kept_until * (1 + 1e-9)))
        others = np.arange(7) != index
        falls = {
            "class": just_after[index] < KEPT * before[index],
            "others": just_after[others].mean() < KEPT * before[others].mean() - 1e-12,
        }
        assert falls[one.lost_by]
        for alpha_hat in np.linspace(0, one.kept_until * (1 - 1e-9), 25):
            kept = _accuracies(inputs, _scaled(inputs, one.feature, alpha_hat))
            assert kept[index] >= KEPT * before[index] - 1e-12
            assert kept[others].mean() >= KEPT * before[others].mean() - 1e-12
    assert "others" in seen


def test_sweeps_equal_edited_heads(inputs: StressInputs, outcome: StressOutcome) -> None:
    swept = [one for one in outcome.features if one.sweep is not None]
    assert {one.index for one in swept} == {one.index for one in inputs.features if one.cross_class}
    assert swept
    for one in swept[:3]:
        assert one.sweep is not None
        for i in range(0, len(one.sweep.alpha_hat), 3):
            found = _accuracies(inputs, _scaled(inputs, one.index, one.sweep.alpha_hat[i]))
            np.testing.assert_allclose([c.accuracy[i] for c in one.sweep.classes], found, atol=1e-6)
        strongest = int(np.argmax(np.abs(inputs.codes[:, one.index])))
        assert one.sweep.images[0].path == inputs.paths[strongest]
        assert one.entangled == any(each.alpha_hat < 0 for each in one.sweep.opposed)
        for each in one.sweep.moves:
            at = one.sweep.alpha_hat.index(each.alpha_hat)
            before = one.sweep.alpha_hat.index(0.0)
            change = {c.class_name: c.accuracy[at] - c.accuracy[before] for c in one.sweep.classes}
            assert all(change[name] < 0 for name in each.falls)
            assert all(change[name] > 0 for name in each.rises)


def test_matched_edits_are_those_of_the_comparison(inputs: StressInputs) -> None:
    """Null controls draw anew in every context: the same stream must give the same edit."""
    edits = MatchedEdits(inputs.compared, inputs.results, inputs.seed)
    assert edits.target == 0.05
    checked = set()
    for one in inputs.results:
        index = inputs.compared.class_names.index(one.class_name)
        if one.target_accuracy == 0.05 and one.reached:
            found = _accuracies(inputs, edits.edit(one.method, index))
            assert found[index] == pytest.approx(one.reached_accuracy)
            assert np.delete(found, index).mean() == pytest.approx(one.others_accuracy)
            checked.add(one.method)
        else:
            assert one.target_accuracy != 0.05 or not edits.reaches(one.method, index)
    assert {"salve", "null-random", "rome"} <= checked


def test_scaling_columns_commutes_and_projecting_does_not(inputs: StressInputs, stress: Stress) -> None:
    commutes = {one.method: one.commutes for one in stress.composition}
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
    for one in (c for c in stress.chains if c.method in ("salve", "ablation")):
        classes = [inputs.compared.class_names.index(name) for name in one.class_names]
        assert len(classes) == 5
        others = np.setdiff1d(np.arange(7), classes)
        heads = [edits.head, *edit_in_turn(edits, one.method, classes)]
        for step, head in zip(one.steps, heads, strict=True):
            found = _accuracies(inputs, head)
            assert step.others == pytest.approx(found[others].mean())
            assert step.change == pytest.approx(step.others - one.steps[0].others)
            assert step.low <= step.others <= step.high
            assert step.change_low <= step.change <= step.change_high
            if step.n_edits:
                assert step.edited == pytest.approx(found[classes[: step.n_edits]].mean())
    assert [o.n_edits for o in stress.chains[0].orders] == [2, 5]
    fragile = [one for one in stress.chains if one.fragile]
    assert all(one.class_names == stress.class_names[:5] for one in fragile)


def test_removed_outputs_are_never_predicted(stress: Stress) -> None:
    removed = next(one for one in stress.composition if one.method == "output-removed")
    assert [step.edited for step in removed.steps[1:]] == [0.0] * 5
    assert all(step.change >= 0 for step in removed.steps)  # fewer rivals can only help the others
    assert (removed.gap, removed.gap_low, removed.gap_high) == (0.0, 0.0, 0.0)
    last = {(one.method, one.class_names): one.steps[-1].others for one in stress.chains}
    for one in stress.composition:
        own = [names for method, names in last if method == one.method]
        assert one.gap == pytest.approx(np.mean([last[one.method, c] - last["output-removed", c] for c in own]))
        assert one.gap_low <= one.gap <= one.gap_high


def test_recovery_counts_every_picture_once(inputs: StressInputs, stress: Stress) -> None:
    by_method = {one.method: one for one in stress.recovery}
    assert next(iter(by_method)) == "unedited"
    salve = by_method["salve"]
    assert salve.n + salve.n_kept <= 7 * stress.n_per_class
    assert salve.n > 0
    assert salve.low is not None
    assert salve.median is not None
    assert salve.high is not None
    assert salve.low <= salve.median <= salve.high
    shares = [one.share for one in salve.shares]
    assert shares == sorted(shares)
    assert sum(one.n for one in salve.classes) == salve.n


def test_without_methods_there_is_enhancement_alone(make_inputs: Callable[..., StressInputs]) -> None:
    found = stress_edits(make_inputs(methods=())).stress
    assert found.target_accuracy is None
    assert found.enhancement
    assert not found.composition
    assert not found.recovery


def test_large_problems_are_cut_and_say_so(inputs: StressInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(population, "MAX_CLASSES", 3)
    monkeypatch.setattr(population, "MAX_WORK", 1.0)
    monkeypatch.setattr(population, "FEW", 4)
    monkeypatch.setattr(recovery, "PER_CLASS", 6)
    monkeypatch.setattr(stage, "SWEEP_BUDGET", 0.0)
    monkeypatch.setattr(stage, "LEAST_SWEPT", 1)
    found = stress_edits(inputs)
    assert len(found.stress.class_names) == 3
    assert found.stress.n_classes_left_out == 4
    assert found.stress.n_samples == 3 * 40 + 4 * 4
    assert found.stress.n_sweeps_left_out == sum(one.cross_class for one in inputs.features) - 1
    assert all(one.n + one.n_kept <= 18 for one in found.stress.recovery)


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
    assert all(len(set(one.classes)) == 5 for one in chains)


def test_a_world_of_two_classes_is_enhanced_but_not_combined(inputs: StressInputs) -> None:
    rows = np.isin(inputs.compared.audit_labels, (0, 1))
    compared = dataclasses.replace(
        inputs.compared, audit_acts=inputs.compared.audit_acts[rows], audit_labels=inputs.compared.audit_labels[rows]
    )
    cut = dataclasses.replace(
        inputs,
        compared=compared,
        classes=inputs.classes[:2],
        codes=inputs.codes[rows],
        paths=tuple(path for path, yes in zip(inputs.paths, rows, strict=True) if yes),
    )
    found = stress_edits(cut).stress
    assert len(found.enhancement) == 2
    assert found.composition == ()


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
