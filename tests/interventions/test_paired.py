"""The paired test, Holm's correction, and the second level of the bootstrap: keys and seeds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from salve_audit.interventions.comparison import Comparison, ComparisonInputs, ComparisonSettings, SeedFeatures
from salve_audit.interventions.matched import compare_interventions
from salve_audit.interventions.paired import MethodCell, adjust_holm, compare_cells, two_sided
from salve_audit.interventions.registry import METHODS
from salve_audit.interventions.workbench import Workbench
from salve_audit.results import InterventionResult, MethodSummary

SETTINGS = ComparisonSettings(n_bootstrap=300)


def cell(others: float, drawn: np.ndarray, mixed: np.ndarray | None = None, reached: bool = True) -> MethodCell:
    result = InterventionResult("m", "c", None, 1.0, 0.5, 0.5, reached, others, others, 0.0, 1.0, 0.1, 0.5, 0.0, 1.0)
    return MethodCell(result, drawn, drawn if mixed is None else mixed, np.full(len(drawn), reached))


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
    # Two methods that are each right on 80 % of the same images, by chance of the image alone.
    p_values = [two_sided(weights @ ((rng.random(n) < 0.8) * 1.0 - (rng.random(n) < 0.8))) for _ in range(n_worlds)]
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.03)


def test_holm_by_hand() -> None:
    assert adjust_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_holm([0.5, 0.9]) == [1.0, 1.0]
    assert adjust_holm([]) == []


def test_only_the_common_classes_and_the_choices_that_reach_count() -> None:
    draws = np.array([0.8, 0.9, 0.7])
    own = {"a": cell(0.8, draws, draws - 0.2), "b": cell(0.5, draws, reached=False), "c": cell(0.9, draws)}
    reference = {"a": cell(0.7, draws - 0.1), "b": cell(0.7, draws), "d": cell(0.1, draws)}
    differences = compare_cells(own, reference)
    assert (differences.n_common, differences.mean) == (1, pytest.approx(0.1))
    assert (differences.low, differences.high) == pytest.approx((-0.1, 0.1))  # over samples +0.1, over both levels -0.1
    assert differences.p == 1.0 or differences.p == pytest.approx(2 * 1 / 4)
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


def test_the_draws_of_seeds_are_those_of_all_methods_where_a_seed_has_nothing_for_one(
    world: ComparisonInputs, seeds: tuple[SeedFeatures, ...]
) -> None:
    features = seeds[-1].features
    bare = dataclasses.replace(seeds[-1], alive=np.isin(np.arange(len(seeds[-1].alive)), features))
    given = dataclasses.replace(world, other_seeds=(*seeds[:-1], bare))  # its null-random has no latent left
    pair = dataclasses.replace(SETTINGS, methods=("salve", "null-random"))
    together = compare_interventions(pair, given)
    alone = compare_interventions(dataclasses.replace(pair, methods=("null-random",)), given)
    assert {s.n_keys for s in alone.spreads} <= {1, 2}, "the last seed counts for the null"
    assert alone.results == tuple(r for r in together.results if r.method == "null-random")


def by_key(comparison: Comparison) -> dict[tuple[str, float], MethodSummary]:
    return {(summary.method, summary.target_accuracy): summary for summary in comparison.summary}


def test_every_seed_is_matched_with_its_own_feature(
    world: ComparisonInputs, seeds: tuple[SeedFeatures, ...], seeded: Comparison
) -> None:
    values: dict[tuple[str, str, float], list[float]] = {}
    for seed in (None, *seeds):
        own = {} if seed is None else {f.name: getattr(seed, f.name) for f in dataclasses.fields(seed)}
        audit = compare_interventions(
            dataclasses.replace(SETTINGS, methods=("salve", "steering", "ablation")), dataclasses.replace(world, **own)
        )
        for result in audit.results:
            if result.reached:
                values.setdefault((result.method, result.class_name, result.target_accuracy), []).append(
                    result.others_accuracy
                )
    spreads = [
        spread for spread in seeded.spreads if spread.over == "seeds" and spread.method in {m for m, _, _ in values}
    ]
    assert len(spreads) == len(values)
    for spread in spreads:
        expected = values[spread.method, spread.class_name, spread.target_accuracy]
        assert spread.n_keys == len(expected)
        assert (spread.low, spread.median, spread.high) == pytest.approx(np.quantile(expected, [0, 0.5, 1]).tolist())


def test_seeds_widen_only_the_intervals_of_methods_that_use_them(world: ComparisonInputs, seeded: Comparison) -> None:
    alone = by_key(compare_interventions(SETTINGS, world))
    for key, summary in by_key(seeded).items():
        before = alone[key]
        assert summary.others_accuracy == before.others_accuracy
        assert summary.low <= before.low + 1e-12
        assert summary.high >= before.high - 1e-12
        if not METHODS[summary.method].featured:
            assert (summary.low, summary.high) == (before.low, before.high)
    wider = [
        by_key(seeded)[key].high - by_key(seeded)[key].low > 1.05 * (alone[key].high - alone[key].low) for key in alone
    ]
    assert any(wider)
    assert {spread.method for spread in seeded.spreads if spread.over == "seeds"} == {
        key for key, method in METHODS.items() if method.featured
    }


def test_keys_widen_the_intervals_of_the_methods_that_use_them(
    world: ComparisonInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(
        SETTINGS, methods=("leace", *(key for key, method in METHODS.items() if method.keyed))
    )
    keyed = by_key(compare_interventions(settings, world))
    monkeypatch.setattr(Workbench, "with_other_keys", lambda bench, context: [])
    fixed = by_key(compare_interventions(settings, world))
    widths = {
        key: (interval.high - interval.low) / (fixed[key].high - fixed[key].low) for key, interval in keyed.items()
    }
    assert {key: width for key, width in widths.items() if key[0] == "leace"} == {("leace", 0.5): 1, ("leace", 0.05): 1}
    assert min(widths.values()) >= 1
    assert max(widths.values()) > 1.1


def test_salve_is_tested_against_every_other_method(seeded: Comparison) -> None:
    assert {summary.method for summary in seeded.summary} == set(METHODS)
    results = {(r.method, r.class_name, r.target_accuracy): r for r in seeded.results}
    for target in SETTINGS.targets:
        family = [
            summary for summary in seeded.summary if summary.target_accuracy == target and summary.p_salve is not None
        ]
        assert [summary.p_salve_holm for summary in family] == pytest.approx(
            adjust_holm([summary.p_salve for summary in family])
        )
        for summary in family:
            pairs = [
                r.others_accuracy - results["salve", name, target].others_accuracy
                for (method, name, at), r in results.items()
                if (method, at) == (summary.method, target) and r.reached and results["salve", name, target].reached
            ]
            assert summary.n_common_salve == len(pairs)
            assert summary.to_salve == pytest.approx(np.mean(pairs))
            assert summary.to_salve_low <= summary.to_salve <= summary.to_salve_high
            if summary.p_salve < 0.045:  # the interval and the test are of the same draws
                assert not summary.to_salve_low < 0 < summary.to_salve_high
    salve = next(summary for summary in seeded.summary if summary.method == "salve")
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
        monkeypatch.setattr("salve_audit.interventions.plan.CHOICE_PRODUCTS", 1.0)
        fragile = np.array([5.0, 1.0, np.nan, 0.5, 3.0])
        comparison = compare_interventions(SETTINGS, dataclasses.replace(world, fragility=fragile, other_seeds=seeds))
        assert {r.class_name for r in comparison.results if r.method == "salve" and r.n_others is None} == {
            "class 1",
            "class 3",
        }
        assert {r.class_name for r in comparison.results if r.method == "null-permuted"} == {"class 1", "class 3"}
        assert {r.class_name for r in comparison.results if r.method == "leace"} == set(world.class_names)
        assert {s.class_name for s in comparison.spreads} <= {"class 3"}
        assert {s.n_classes for s in comparison.summary} == {2}
        assert (
            "The summary of all methods, null controls among them, is over the 2 most fragile of 5 classes"
            in comparison.notes[0]
        )
        assert "Other keys and seeds are compared on the 1 most fragile classes" in comparison.notes[1]
        before = {(r.method, r.class_name, r.target_accuracy): r.others_accuracy for r in whole.results}
        for r in comparison.results:
            assert r.others_accuracy == pytest.approx(before[r.method, r.class_name, r.target_accuracy])
        self._check_partial(comparison, whole)

    def test_of_very_many_classes_the_less_fragile_have_salve_alone(
        self, world: ComparisonInputs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("salve_audit.interventions.plan.FULL_PRODUCTS", 1.0)
        monkeypatch.setattr("salve_audit.interventions.plan.MOST_COMPARED", 3)
        fragile = np.array([5.0, 1.0, np.nan, 0.5, 3.0])
        comparison = compare_interventions(SETTINGS, dataclasses.replace(world, fragility=fragile))
        of_method = {m: {r.class_name for r in comparison.results if r.method == m} for m in ("salve", "leace")}
        assert of_method == {"salve": set(world.class_names), "leace": {"class 1", "class 3", "class 4"}}
        assert "measured on the 3 most fragile classes and all images" in comparison.notes[0]

    @staticmethod
    def _check_partial(partial_comparison: Comparison, whole: Comparison) -> None:
        """All images are few enough to be the part, so that SALVE's numbers are those of the whole comparison."""
        before = {(r.class_name, r.target_accuracy): r for r in whole.results if r.method == "salve"}
        partial = [r for r in partial_comparison.results if r.n_others is not None]
        assert {r.class_name for r in partial} == {"class 0", "class 2", "class 4"}
        for r in partial:
            own = before[r.class_name, r.target_accuracy]
            same = ("strength", "reached", "reached_accuracy", "others_accuracy", "kl", "agreement", "weight_change")
            assert [getattr(r, key) for key in same] == pytest.approx([getattr(own, key) for key in same])
            assert r.low < r.others_accuracy < r.high
            assert (r.others_worst, r.area) == (None, None)
