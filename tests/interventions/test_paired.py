"""The paired test, Holm's correction, and the second level of the bootstrap: keys and seeds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from salve_audit.interventions.comparison import Comparison, ComparisonInputs, ComparisonSettings, SeedFeatures
from salve_audit.interventions.matched import compare_interventions
from salve_audit.interventions.paired import Cell, adjust_holm, compare_cells, two_sided
from salve_audit.interventions.registry import FEATURED, KEYED, METHODS
from salve_audit.results import InterventionResult, MethodSummary

SETTINGS = ComparisonSettings(n_bootstrap=300)


def cell(others: float, drawn: np.ndarray, mixed: np.ndarray | None = None, reached: bool = True) -> Cell:
    result = InterventionResult("m", "c", None, 1.0, 0.5, 0.5, reached, others, others, 0.0, 1.0, 0.1, 0.5, 0.0, 1.0)
    return Cell(result, drawn, drawn if mixed is None else mixed, np.full(len(drawn), reached))


def test_the_p_value_is_twice_the_share_of_draws_beyond_no_difference() -> None:
    draws = np.linspace(-0.0975, 0.8975, 200)  # 20 of them below 0
    assert np.count_nonzero(draws <= 0) == 20
    assert two_sided(draws) == pytest.approx(2 * 21 / 201)
    assert two_sided(-draws) == two_sided(draws)
    assert two_sided(np.full(999, 0.3)) == pytest.approx(0.002)
    assert two_sided(np.zeros(50)) == 1.0
    assert two_sided(np.zeros(0)) == 1.0


def test_the_test_keeps_its_level_where_nothing_differs() -> None:
    rng, n_worlds, n = np.random.default_rng(0), 400, 200
    weights = rng.multinomial(n, np.full(n, 1 / n), size=400) / n
    # Two methods that are each right on 80 % of the same pictures, by chance of the picture alone.
    found = [two_sided(weights @ ((rng.random(n) < 0.8) * 1.0 - (rng.random(n) < 0.8))) for _ in range(n_worlds)]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.03)


def test_holm_by_hand() -> None:
    assert adjust_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_holm([0.5, 0.9]) == [1.0, 1.0]
    assert adjust_holm([]) == []


def test_only_the_common_classes_and_the_choices_that_reach_count() -> None:
    draws = np.array([0.8, 0.9, 0.7])
    own = {"a": cell(0.8, draws, draws - 0.2), "b": cell(0.5, draws, reached=False), "c": cell(0.9, draws)}
    reference = {"a": cell(0.7, draws - 0.1), "b": cell(0.7, draws), "d": cell(0.1, draws)}
    found = compare_cells(own, reference)
    assert (found.n_common, found.mean) == (1, pytest.approx(0.1))
    assert (found.low, found.high) == pytest.approx((-0.1, 0.1))  # over samples +0.1, over both levels -0.1
    assert found.p == 1.0 or found.p == pytest.approx(2 * 1 / 4)
    assert compare_cells(own, {}).mean is None


@pytest.fixture(scope="module")
def seeds(world: ComparisonInputs) -> tuple[SeedFeatures, ...]:
    rng = np.random.default_rng(4)

    def another(noise: float) -> SeedFeatures:
        rows = world.dictionary + noise * rng.normal(size=world.dictionary.shape).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        order = rng.permutation(len(rows))  # the same latents in another order
        place = np.argsort(order)
        return SeedFeatures(place[world.features], rows[order], world.mean_codes[:, order], world.alive[order])

    return tuple(another(noise) for noise in (0.05, 0.15))


@pytest.fixture(scope="module")
def seeded(world: ComparisonInputs, seeds: tuple[SeedFeatures, ...]) -> Comparison:
    return compare_interventions(SETTINGS, dataclasses.replace(world, other_seeds=seeds))


def by_key(found: Comparison) -> dict[tuple[str, float], MethodSummary]:
    return {(one.method, one.target_accuracy): one for one in found.summary}


def test_every_seed_is_matched_with_its_own_feature(
    world: ComparisonInputs, seeds: tuple[SeedFeatures, ...], seeded: Comparison
) -> None:
    values: dict[tuple[str, str, float], list[float]] = {}
    for seed in (None, *seeds):
        own = {} if seed is None else {f.name: getattr(seed, f.name) for f in dataclasses.fields(seed)}
        audit = compare_interventions(
            dataclasses.replace(SETTINGS, methods=("salve", "steering", "ablation")), dataclasses.replace(world, **own)
        )
        for one in audit.results:
            if one.reached:
                values.setdefault((one.method, one.class_name, one.target_accuracy), []).append(one.others_accuracy)
    spreads = [one for one in seeded.spreads if one.over == "seeds" and one.method in {m for m, _, _ in values}]
    assert len(spreads) == len(values)
    for one in spreads:
        expected = values[one.method, one.class_name, one.target_accuracy]
        assert one.n_keys == len(expected)
        assert (one.low, one.median, one.high) == pytest.approx(np.quantile(expected, [0, 0.5, 1]).tolist())


def test_seeds_widen_only_the_intervals_of_methods_that_use_them(world: ComparisonInputs, seeded: Comparison) -> None:
    alone = by_key(compare_interventions(SETTINGS, world))
    for key, one in by_key(seeded).items():
        before = alone[key]
        assert one.others_accuracy == before.others_accuracy
        assert one.low <= before.low + 1e-12
        assert one.high >= before.high - 1e-12
        if one.method not in FEATURED:
            assert (one.low, one.high) == (before.low, before.high)
    wider = [
        by_key(seeded)[key].high - by_key(seeded)[key].low > 1.05 * (alone[key].high - alone[key].low) for key in alone
    ]
    assert any(wider)
    assert {one.method for one in seeded.spreads if one.over == "seeds"} == FEATURED


def test_keys_widen_the_intervals_of_the_methods_that_use_them(
    world: ComparisonInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(SETTINGS, methods=("leace", *sorted(KEYED)))
    keyed = by_key(compare_interventions(settings, world))
    monkeypatch.setattr("salve_audit.interventions.variants.KEYED", frozenset())
    fixed = by_key(compare_interventions(settings, world))
    widths = {key: (one.high - one.low) / (fixed[key].high - fixed[key].low) for key, one in keyed.items()}
    assert {key: width for key, width in widths.items() if key[0] == "leace"} == {("leace", 0.5): 1, ("leace", 0.05): 1}
    assert min(widths.values()) >= 1
    assert max(widths.values()) > 1.1


def test_salve_is_tested_against_every_other_method(seeded: Comparison) -> None:
    assert {one.method for one in seeded.summary} == set(METHODS)
    results = {(r.method, r.class_name, r.target_accuracy): r for r in seeded.results}
    for target in SETTINGS.targets:
        family = [one for one in seeded.summary if one.target_accuracy == target and one.p_salve is not None]
        assert [one.p_salve_holm for one in family] == pytest.approx(adjust_holm([one.p_salve for one in family]))
        for one in family:
            pairs = [
                r.others_accuracy - results["salve", name, target].others_accuracy
                for (method, name, at), r in results.items()
                if (method, at) == (one.method, target) and r.reached and results["salve", name, target].reached
            ]
            assert one.n_common_salve == len(pairs)
            assert one.to_salve == pytest.approx(np.mean(pairs))
            assert one.to_salve_low <= one.to_salve <= one.to_salve_high
            if one.p_salve < 0.045:  # the interval and the test are of the same draws
                assert not one.to_salve_low < 0 < one.to_salve_high
    salve = next(one for one in seeded.summary if one.method == "salve")
    assert (salve.to_salve, salve.p_salve, salve.p_salve_holm) == (None, None, None)


class TestPlan:
    def test_a_small_audit_has_everything(self, seeded: Comparison) -> None:
        assert seeded.notes == ()

    def test_what_costs_too_much_is_left_to_the_most_fragile_and_said(
        self, world: ComparisonInputs, seeds: tuple[SeedFeatures, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = compare_interventions(SETTINGS, world)
        product = len(world.audit_labels) * world.audit_acts.shape[1] * len(world.class_names)
        monkeypatch.setattr("salve_audit.interventions.plan.FULL_PRODUCTS", 2.5 * 3 * 14 * product)
        monkeypatch.setattr("salve_audit.interventions.plan.VARIANT_PRODUCTS", 1.0)
        fragile = np.array([5.0, 1.0, np.nan, 0.5, 3.0])
        found = compare_interventions(SETTINGS, dataclasses.replace(world, fragility=fragile, other_seeds=seeds))
        assert {r.class_name for r in found.results if r.method == "salve" and r.n_others is None} == {
            "class 1",
            "class 3",
        }
        assert {r.class_name for r in found.results if r.method == "null-permuted"} == {"class 1", "class 3"}
        assert {r.class_name for r in found.results if r.method == "leace"} == set(world.class_names)
        assert {s.class_name for s in found.spreads} <= {"class 3"}
        assert {s.n_classes for s in found.summary} == {2}
        assert (
            "The summary of all methods, null controls among them, is over the 2 most fragile of 5 classes"
            in found.notes[0]
        )
        assert "Other keys and seeds are compared on the 1 most fragile classes" in found.notes[1]
        before = {(r.method, r.class_name, r.target_accuracy): r.others_accuracy for r in whole.results}
        for r in found.results:
            assert r.others_accuracy == pytest.approx(before[r.method, r.class_name, r.target_accuracy])
        self._check_partial(found, whole)

    @staticmethod
    def _check_partial(found: Comparison, whole: Comparison) -> None:
        """All pictures are few enough to be the part, so that SALVE's numbers are those of the whole comparison."""
        before = {(r.class_name, r.target_accuracy): r for r in whole.results if r.method == "salve"}
        partial = [r for r in found.results if r.n_others is not None]
        assert {r.class_name for r in partial} == {"class 0", "class 2", "class 4"}
        for r in partial:
            own = before[r.class_name, r.target_accuracy]
            same = ("strength", "reached", "reached_accuracy", "others_accuracy", "kl", "agreement", "weight_change")
            assert [getattr(r, key) for key in same] == pytest.approx([getattr(own, key) for key in same])
            assert r.low < r.others_accuracy < r.high
            assert (r.others_worst, r.area) == (None, None)
