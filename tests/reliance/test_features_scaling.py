"""Feature choice, effects, enhancement, redundancy and null controls against brute force."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.reliance.assess import RelianceInputs, assess_reliance
from salve_audit.reliance.effects import describe_features, measure_baseline
from salve_audit.reliance.enhancement import Unedited, enhancement_thresholds
from salve_audit.reliance.features import class_means, describe_blocks, describe_use
from salve_audit.reliance.nulls import NullSettings, beyond_null, control_class
from salve_audit.reliance.scaling import (
    Samples,
    class_accuracy,
    correct_under,
    count_redundancy,
    enhancing,
    suppressing,
    trace_curve,
)
from salve_audit.reliance.spread import OtherSeed
from salve_audit.reliance.survival import estimate_median, flip_times
from salve_audit.reliance.thresholds import thresholds
from salve_audit.results import NullControl

K, D, M, N = 4, 16, 10, 400


def make_world(seed: int = 0) -> tuple[Samples, np.ndarray, np.ndarray, np.ndarray]:
    """Audit samples whose classes lie along the first K dictionary rows; codes and labels of a fit split."""
    rng = np.random.default_rng(seed)
    dictionary = np.linalg.qr(rng.normal(size=(D, M)))[0].T.astype(np.float32)  # (m, d) orthonormal
    labels = rng.integers(0, K, size=2 * N)
    codes = rng.normal(scale=0.3, size=(2 * N, M))
    codes[np.arange(2 * N), labels] += 3.0
    acts = (codes @ dictionary).astype(np.float32)
    weight = (dictionary[:K] + 0.1 * rng.normal(size=(K, D))).astype(np.float32)
    head = LinearHead(weight, rng.normal(scale=0.05, size=K).astype(np.float32), "fc")
    return Samples(acts[N:], labels[N:], head), dictionary, codes[:N].astype(np.float32), labels[:N]


def brute_accuracy(samples: Samples, factors: np.ndarray) -> np.ndarray:
    logits = (samples.acts.astype(np.float64) * factors) @ samples.head.weight.T.astype(np.float64) + samples.head.bias
    hits = logits.argmax(1) == samples.labels
    return np.array([hits[samples.labels == k].mean() for k in range(K)])


def test_dominant_latents_are_the_planted_ones() -> None:
    samples, dictionary, codes, labels = make_world()
    use = describe_use(codes, labels, dictionary, samples.head)
    assert use.dominant.tolist() == list(range(K))
    assert (use.by_attribution[:, 0] == np.arange(K)).all()
    np.testing.assert_allclose(use.mean_codes[2], codes[labels == 2].mean(0), rtol=1e-5)
    assert use.shared[:K].sum(1).tolist() == [1] * K


def test_blocks_of_codes_give_the_same_use() -> None:
    samples, dictionary, codes, labels = make_world()
    whole = describe_use(codes, labels, dictionary, samples.head)
    parts = [(codes[i : i + 37], labels[i : i + 37]) for i in range(0, len(codes), 37)]
    blocked = describe_blocks(parts, dictionary, samples.head)
    np.testing.assert_allclose(blocked.mean_codes, whole.mean_codes, rtol=1e-6)
    assert blocked.dominant.tolist() == whole.dominant.tolist()
    assert blocked.alive.tolist() == whole.alive.tolist()


def test_dominant_does_not_depend_on_the_scale_of_a_latent() -> None:
    """z -> t z, D -> D / t is the same feature."""
    samples, dictionary, codes, labels = make_world()
    scale = np.ones(M, np.float32)
    scale[7] = 1000.0
    use = describe_use(codes, labels, dictionary, samples.head)
    scaled_use = describe_use(codes * scale, labels, dictionary / scale[:, None], samples.head)
    assert use.dominant.tolist() == scaled_use.dominant.tolist()
    np.testing.assert_allclose(use.attribution, scaled_use.attribution, rtol=1e-4, atol=1e-5)


def test_a_class_without_samples_has_no_means() -> None:
    means = class_means(np.ones((3, 2)), np.array([0, 0, 2]), 4)
    assert np.isnan(means[[1, 3]]).all()
    assert means[[0, 2]].tolist() == [[1, 1], [1, 1]]


def test_attribution_is_the_mean_share_of_the_logit_above_the_mean_logit() -> None:
    samples, dictionary, codes, labels = make_world()
    use = describe_use(codes, labels, dictionary, samples.head)
    own = codes[labels == 1]
    lead = samples.head.weight[1] - samples.head.weight.mean(0)
    np.testing.assert_allclose(use.attribution[1, 5], (own[:, 5] * (lead @ dictionary[5])).mean(), rtol=1e-4)


def test_accuracies_and_curves_equal_an_evaluation_of_scaled_activations() -> None:
    samples, dictionary, _, _ = make_world()
    coupling = np.abs(dictionary[0].astype(np.float64))
    for factors in (suppressing(coupling, 1.3), enhancing(coupling, 0.7)):
        accuracies = class_accuracy(correct_under(samples, factors), samples.labels, K)
        np.testing.assert_allclose(accuracies, brute_accuracy(samples, factors))
    curve = trace_curve(samples, 0, coupling, np.array([0.0, 1.0, 5.0]))
    for at, strength in enumerate((0.0, 1.0, 5.0)):
        expected = brute_accuracy(samples, np.maximum(0, 1 - strength * coupling / coupling.max()))
        assert curve.accuracy[at] == pytest.approx(expected[0])
        assert curve.others[at] == pytest.approx(expected[1:].mean())


def test_ties_count_as_wrong() -> None:
    head = LinearHead(np.zeros((2, 3), np.float32), np.zeros(2, np.float32), "fc")
    tied = Samples(np.ones((4, 3), np.float32), np.array([0, 1, 0, 1]), head)
    assert not correct_under(tied, np.ones(3)).any()


def test_redundancy_counts_features_until_half_are_wrong() -> None:
    samples, dictionary, _, _ = make_world()
    own = samples.of_class(0)
    order = np.arange(M)
    factors, expected = np.ones(D), None
    for count in range(M + 1):
        if brute_accuracy(samples, factors)[0] <= 0.5:
            expected = count
            break
        coupling = np.abs(dictionary[order[min(count, M - 1)]].astype(np.float64))
        factors = factors * np.maximum(0, 1 - coupling / coupling.max())
    assert count_redundancy(own, dictionary, order, limit=M) == expected
    assert count_redundancy(own, dictionary, order, limit=0) is None
    assert count_redundancy(Samples(own.acts[:0], own.labels[:0], own.head), dictionary, order, limit=M) is None


def test_enhancement_is_where_the_class_takes_the_lead() -> None:
    samples, dictionary, _, _ = make_world()
    coupling = np.abs(dictionary[1].astype(np.float64))
    thresholds = enhancement_thresholds(Unedited.of(samples), coupling, target=1)
    acts, weight = samples.acts.astype(np.float64), samples.head.weight.astype(np.float64)

    def leads(alpha_hat: float) -> np.ndarray:
        logits = (acts * (1 + alpha_hat * coupling / coupling.max())) @ weight.T + samples.head.bias
        return logits[:, 1] > np.delete(logits, 1, axis=1).max(1)

    assert np.array_equal(np.isnan(thresholds), leads(0.0))
    grid = np.linspace(0, 30, 300)
    ever = np.array([leads(a) for a in grid])  # (g, n)
    for n in np.flatnonzero(~np.isnan(thresholds)):
        if np.isinf(thresholds[n]):
            assert not ever[:, n].any()
        else:
            assert not ever[grid < thresholds[n] - 1e-9, n].any()
            assert leads(thresholds[n] * (1 + 1e-9) + 1e-12)[n]


def test_features_report_effects_against_brute_force_and_entanglement() -> None:
    samples, dictionary, codes, labels = make_world()
    use = describe_use(codes, labels, dictionary, samples.head)
    infos = describe_features(samples, dictionary, use, ("a", "b", "c", "d"))
    assert {info.index for info in infos} >= set(range(K))
    start = brute_accuracy(samples, np.ones(D))
    baseline = measure_baseline(samples)
    np.testing.assert_allclose(baseline.accuracy, start)
    first = next(info for info in infos if info.index == 0)
    assert first.dominant_for == ("a",)
    coupling = np.abs(dictionary[0].astype(np.float64)) / np.abs(dictionary[0]).max()
    for effect in first.effect.suppress:
        expected = brute_accuracy(samples, np.maximum(0, 1 - effect.alpha_hat * coupling)) - start
        np.testing.assert_allclose(np.array(effect.accuracy_change, float), expected, atol=1e-6)
    after = brute_accuracy(samples, np.maximum(0, 1 - coupling))
    moved = [name for k, name in enumerate("abcd") if not baseline.low[k] <= after[k] <= baseline.high[k]]
    assert list(first.affected) == moved
    signs = {np.sign(after[k] - start[k]) for k, name in enumerate("abcd") if name in moved}
    assert first.entangled == ({1.0, -1.0} <= signs)


def test_no_feature_that_two_classes_share_is_left_out() -> None:
    """By the mean codes alone, whatever its suppression does."""
    samples, dictionary, codes, labels = make_world()
    codes = codes.copy()
    codes[(labels == 0) | (labels == 1), 8] += 0.5
    use = describe_use(codes, labels, dictionary, samples.head)
    infos = {info.index: info for info in describe_features(samples, dictionary, use, ("a", "b", "c", "d"))}
    sizes = np.abs(np.stack([codes[labels == k].mean(0) for k in range(K)]))  # (k, m)
    shared = np.flatnonzero((sizes >= 0.5 * sizes.max(0)).sum(0) >= 2)
    assert 8 in shared
    assert set(shared) <= set(infos)
    assert infos[8].classes == ("a", "b")
    assert infos[8].cross_class


@pytest.mark.parametrize(
    ("permuted", "random", "expected"),
    [
        ((0.02, 49), (0.02, 49), True),
        ((0.02, 49), (0.40, 49), False),
        ((0.02, 49), (0.33, 2), True),  # two draws cannot reach 5 %, so that null says nothing
        ((None, 49), (0.5, 1), None),
        ((0.3, 49), (None, 0), False),
    ],
)
def test_a_null_with_too_few_draws_is_not_held_against_a_feature(
    permuted: tuple[float | None, int], random: tuple[float | None, int], expected: bool | None
) -> None:
    null = NullControl(50, 1.0, 2.0, permuted[0], 2.0, random[0], permuted[1], random[1])
    assert beyond_null(null) is expected


def test_null_control_separates_a_planted_direction_from_chance() -> None:
    _, dictionary, _, _ = make_world()
    others = np.arange(K, M)
    rng = np.random.default_rng(0)
    # a head that reads exactly one coordinate group per class: the planted coupling removes it, permutations do not
    planted = np.zeros((M, D), np.float32)
    planted[0, :4] = 0.5
    planted[1:] = np.abs(dictionary[1:])
    weight = np.zeros((2, D), np.float32)
    weight[0, :4] = 1.0
    weight[1, 4:] = 0.2
    acts = np.abs(np.random.default_rng(1).normal(loc=1.0, scale=0.1, size=(60, D))).astype(np.float32)
    own = Samples(acts, np.zeros(60, int), LinearHead(weight, np.zeros(2, np.float32), "fc"))
    null = control_class(own, 0, planted, (0, others), rng, NullSettings(n_draws=19, n_samples=50))
    assert null.n_samples == 50
    assert null.n_random == len(others)
    assert null.observed is not None
    assert null.permuted_p == pytest.approx(1 / 20)
    assert null.permuted_median is None or null.permuted_median > null.observed


def test_the_whole_stage_is_deterministic_and_consistent() -> None:
    samples, dictionary, codes, labels = make_world()
    use = describe_use(codes, labels, dictionary, samples.head)
    inputs = RelianceInputs(use, dictionary, samples, ("a", "b", "c", "d"), 3, NullSettings(9, 40))
    first, second = assess_reliance(inputs), assess_reliance(inputs)
    assert first.classes == second.classes
    assert first.features == second.features
    for record in first.classes:
        own = (
            first.samples.flip[samples.labels == record.index]
            * first.samples.coupling_max[samples.labels == record.index]
        )
        flips = np.sort(own[~np.isnan(own)])
        median = flips[(len(flips) + 1) // 2 - 1]
        if np.isfinite(median) and record.alpha_hat.flip.median is not None:
            assert record.alpha_hat.flip.median == pytest.approx(median)
        assert record.n_correct == len(flips)
        assert record.alpha.flip.median is None or record.alpha.flip.median == pytest.approx(
            record.alpha_hat.flip.median / np.abs(dictionary[record.dominant_feature]).max()
        )
    flipped = np.flatnonzero(np.isfinite(first.samples.flip))
    for n in flipped[:20]:
        coupling = np.abs(dictionary[first.classes[samples.labels[n]].dominant_feature].astype(np.float64))
        scale = np.maximum(0, 1 - first.samples.flip[n] * coupling)
        logits = (samples.acts[n] * scale) @ samples.head.weight.T.astype(np.float64) + samples.head.bias
        assert logits[first.samples.flips_to[n]] == pytest.approx(logits[samples.labels[n]], abs=1e-6)


def test_other_seeds_are_looked_at_on_fewer_samples_where_there_are_very_many(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, dictionary, codes, labels = make_world()
    use = describe_use(codes, labels, dictionary, samples.head)
    again = OtherSeed(dictionary, use.dominant, np.ones(len(dictionary), bool))  # finds what the audited one does
    inputs = RelianceInputs(use, dictionary, samples, ("a", "b", "c", "d"), 3, NullSettings(9, 40), (again,))
    whole = assess_reliance(inputs).classes
    k, d = samples.head.weight.shape
    monkeypatch.setattr("salve_audit.reliance.assess.SEED_BUDGET", 2.0 * k * d * 30)
    few = assess_reliance(inputs).classes
    some = samples.at_most(30)
    for before, record in zip(whole, few, strict=True):
        coupling = np.abs(dictionary[record.dominant_feature].astype(np.float64))
        own = thresholds(some.of_class(record.index).acts, *_head(samples), coupling, record.index)
        assert record.seeds is not None
        assert before.seeds is not None
        assert record.seeds.medians == (before.seeds.medians[0], estimate_median(flip_times(own, coupling)).median)
        assert before.seeds.medians[1] == before.seeds.medians[0]
        assert dataclasses.replace(record, seeds=None, stable=None) == dataclasses.replace(
            before, seeds=None, stable=None
        )


def test_the_spread_is_over_autoencoders_chosen_anew_as_far_as_there_are_any() -> None:
    samples, dictionary, codes, labels = make_world()
    use = describe_use(codes, labels, dictionary, samples.head)
    every = np.ones(len(dictionary), bool)
    same = OtherSeed(dictionary, use.dominant, every)  # finds what the audited one does
    other = OtherSeed(dictionary, np.roll(use.dominant, 1), every)  # names the feature of another class
    inputs = RelianceInputs(use, dictionary, samples, ("a", "b", "c", "d"), 3, NullSettings(9, 40), (same, same))
    before = assess_reliance(inputs).classes
    after = assess_reliance(dataclasses.replace(inputs, anew=(other,))).classes
    for old, new in zip(before, after, strict=True):
        assert old.seeds is not None
        assert new.seeds is not None
        coupling = np.abs(dictionary[other.dominant[new.index]].astype(np.float64))
        own = thresholds(samples.of_class(new.index).acts, *_head(samples), coupling, new.index)
        first, anew, last = new.seeds.medians
        assert (first, last) == (old.seeds.medians[0], old.seeds.medians[2])
        assert anew == estimate_median(flip_times(own, coupling)).median
        assert new.stable == old.stable  # told by the other seeds alone
    assert any(new.seeds != old.seeds for old, new in zip(before, after, strict=True))


def _head(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    return samples.head.weight.astype(np.float64), samples.head.bias.astype(np.float64)


def test_classes_as_tasks_elsewhere_give_the_same() -> None:
    samples, dictionary, codes, labels = make_world()
    use = describe_use(codes, labels, dictionary, samples.head)
    inputs, names = RelianceInputs(use, dictionary, samples, ("a", "b", "c", "d"), 3, NullSettings(9, 40)), []

    def elsewhere(work, shared, loads):
        names.append(work.__name__)
        sent = [pickle.dumps((work, shared, load())) for load in loads]
        assert max(map(len, sent)) < pickle.dumps(samples).__sizeof__(), "a task is sent its class alone"
        return [task(*given) for task, *given in map(pickle.loads, sent)]

    here, there = assess_reliance(inputs), assess_reliance(dataclasses.replace(inputs, tasks=elsewhere))
    assert here.classes == there.classes
    assert np.array_equal(here.samples.flip, there.samples.flip, equal_nan=True)
    assert names == ["_find_thresholds", "_control_own"]


def test_an_output_without_images_stays_a_rival_and_gets_no_record() -> None:
    samples, dictionary, codes, labels = make_world()
    keep_fit, keep_audit = labels != 3, samples.labels != 3
    part = Samples(samples.acts[keep_audit], samples.labels[keep_audit], samples.head)
    use = describe_use(codes[keep_fit], labels[keep_fit], dictionary, part.head)
    inputs = RelianceInputs(use, dictionary, part, ("a", "b", "c", "d"), 3, NullSettings(9, 40))
    outcome = assess_reliance(inputs)
    assert [class_record.name for class_record in outcome.classes] == ["a", "b", "c"]
    assert outcome.samples.flips_to.max() == 3, "the fourth output may still overtake a class"
    assert all(info.mean_code[3] is None for info in outcome.features)
