from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from salve_audit.demo.images import ImageKey, draw
from salve_audit.demo.training import predictor
from salve_audit.demo.truth import ALL_TOGETHER, TrueDrops, compare_with_truth, compute_auroc, correlate, measure_truth
from salve_audit.demo.world import World
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.transform import build_transform

N, SEED = 20, 6


def test_a_perfect_reader_of_images_knows_the_truth_of_single_cues(world: World) -> None:
    """A rule instead of a network: says ember where red is seen, else plain. Its true drops are known."""
    ember, plain = world.class_names.index("ember"), world.class_names.index("plain")

    def predict(pixels: np.ndarray) -> np.ndarray:
        values = pixels.astype(float)
        red = (values[..., 0] > 110) & (values[..., 1] < 60) & (values[..., 2] < 60)
        return np.where(red.sum((1, 2)) > 30, ember, plain)

    truth = {class_truth.class_name: class_truth for class_truth in measure_truth(world, predict, SEED, N)}
    assert truth["ember"].drops["red patch"] == truth["ember"].accuracy == truth["ember"].drop_of_all
    assert truth["ember"].accuracy > 0.7
    assert truth["plain"].accuracy == 1.0
    assert truth["plain"].drops == {}
    assert truth["plain"].drop_of_all is None
    assert truth["plain"].largest == 0.0
    assert truth["trio"].drops == {"bar": 0.0, "checkerboard": 0.0, "disk": 0.0}
    assert truth["chapel"].n == N


def test_equals_an_independent_recomputation(trained: Any) -> None:
    """DemoImage by image through the saved checkpoint and timm's transform, counted by hand."""
    world, classifier = trained.world, load_classifier(trained.checkpoint)
    transform = build_transform(classifier.transform)

    def is_right(label: int, index: int, without: tuple[str, ...]) -> bool:
        image = draw(world, ImageKey(SEED, "val", label, index), without)
        with torch.inference_mode():
            logits = classifier.model(transform(Image.fromarray(image.pixels))[None])
        return int(logits.argmax()) == label

    truth = measure_truth(world, predictor(trained.model), SEED, 8)
    for name in ("clinic", "castle"):
        label = world.class_names.index(name)
        cues = tuple(own_cue.cue for own_cue in world.classes[label].cues)
        n_right = sum(is_right(label, i, ()) for i in range(8))
        assert truth[label].accuracy == n_right / 8
        assert tuple(truth[label].drops) == cues
        for cue in cues:
            n_without = sum(is_right(label, i, (cue,)) for i in range(8))
            assert truth[label].drops[cue] == pytest.approx((n_right - n_without) / 8, abs=1e-12)
        n_bare = sum(is_right(label, i, cues) for i in range(8))
        assert truth[label].drop_of_all == pytest.approx((n_right - n_bare) / 8, abs=1e-12)


def test_single_cues_matter_and_redundant_ones_do_not(trained: Any) -> None:
    truth = {
        class_truth.class_name: class_truth
        for class_truth in measure_truth(trained.world, predictor(trained.model), SEED, 40)
    }
    assert min(truth[name].largest for name in ("ember", "chapel", "ripple")) > 0.5
    assert truth["trio"].largest < 0.35
    assert truth["trio"].drop_of_all is not None
    assert truth["trio"].drop_of_all > 0.5


def test_auroc_is_the_share_of_ordered_pairs(rng: np.random.Generator) -> None:
    score, positive = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.3
    pairs = [np.sign(a - b) / 2 + 0.5 for a in score[positive] for b in score[~positive]]
    assert compute_auroc(score, positive) == pytest.approx(np.mean(pairs))
    assert compute_auroc(positive.astype(float), positive) == 1.0
    with pytest.raises(ValueError, match="0 positive and 40 negative"):
        compute_auroc(score, np.zeros(40, bool))


DROPS = [0.98, 0.9, 0.6, 0.3, 0.1, 0.05]


@pytest.mark.parametrize(
    "values",
    [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2.0, 1.0, 4.0, 4.0, 9.0, 3.0], [5.0, 5.0, 1.0, 2.0, 2.0, 2.0]],
)
def test_correlation_agrees_with_scipy(values: list[float]) -> None:
    correlation = correlate("x", values, DROPS)
    assert correlation.rho == pytest.approx(stats.spearmanr(values, DROPS).statistic)

    def statistic(x: np.ndarray) -> float:
        return float(stats.spearmanr(x, DROPS).statistic)

    exact = stats.permutation_test((values,), statistic, permutation_type="pairings", n_resamples=np.inf)
    assert correlation.p == pytest.approx(exact.pvalue, abs=1e-12)
    assert correlation.n == 6


def test_correlation_of_many_classes_takes_scipys_p(rng: np.random.Generator) -> None:
    values, drops = rng.random(12), rng.random(12)
    expected = stats.spearmanr(values, drops)
    correlation = correlate("x", values.tolist(), drops.tolist())
    assert (correlation.rho, correlation.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_what_was_not_reached_ranks_last_and_what_is_not_defined_is_left_out() -> None:
    infinite = correlate("x", [1.0, 2.0, 3.0, math.inf, 5.0, math.inf], DROPS)
    assert infinite.rho == pytest.approx(stats.spearmanr([1, 2, 3, 99, 5, 99], DROPS).statistic)
    missing = correlate("x", [1.0, None, 3.0, 2.0, None, 6.0], DROPS)
    assert missing.n == 4
    assert missing.rho == pytest.approx(stats.spearmanr([1, 3, 2, 6], [0.98, 0.6, 0.3, 0.05]).statistic)


@pytest.mark.parametrize("values", [[1.0, 2.0, None, None, None, None], [3.0] * 6, [None] * 6])
def test_no_correlation_without_variation(values: list[float | None]) -> None:
    correlation = correlate("x", values, DROPS)
    assert (correlation.rho, correlation.p) == (None, None)


def _class_record(
    name: str,
    flip: float | None,
    redundancy: int | None,
    analytical: float | None,
    in_image: tuple[float, int | None] | None = None,
) -> SimpleNamespace:
    """As much of a ClassReliance as the comparison reads."""
    alpha_hat = SimpleNamespace(
        analytical=analytical, numerical=flip, flip=SimpleNamespace(median=flip), empirical=flip
    )
    return SimpleNamespace(
        name=name,
        dominant_feature=ord(name),
        alpha_hat=alpha_hat,
        edit_size_at_flip=flip,
        feature_redundancy=redundancy,
        accuracy=0.9 + ord(name) / 10_000,
        image_reliance=None if in_image is None else SimpleNamespace(reliance=in_image[0], redundancy=in_image[1]),
    )


def test_compares_class_by_class() -> None:
    truth = [
        TrueDrops("a", 10, 1.0, {"p": 1.0}, 1.0),
        TrueDrops("b", 10, 0.9, {"q": 0.2, "r": 0.5}, 0.8),
        TrueDrops("c", 10, 1.0, {}, None),
        TrueDrops("d", 10, 1.0, {"s": 0.1}, 0.1),
        TrueDrops("e", 10, 1.0, {"t": 0.0, "u": -0.1}, 0.0),
    ]
    records = [
        _class_record("e", None, 3, 2.0, (0.1, None)),
        _class_record("d", 4.0, None, 3.0, (0.2, 3)),
        _class_record("c", 0.1, 1, 1.0),
        _class_record("b", 5.0, 2, None),
        _class_record("a", 1.0, 1, 1.0, (0.9, 1)),
    ]
    result: Any = SimpleNamespace(classes=records)
    demo = compare_with_truth(result, truth, [0.9, 0.8, 0.7, 0.6, 0.5])
    assert [class_record.class_name for class_record in demo.classes] == list("abcde")
    assert demo.classes[1].true_drop == {"q": 0.2, "r": 0.5, ALL_TOGETHER: 0.8}
    assert demo.classes[0].true_drop == {"p": 1.0}
    assert [class_record.largest_drop for class_record in demo.classes] == [1.0, 0.5, 0.0, 0.1, 0.0]
    assert [class_record.dominant_feature for class_record in demo.classes] == [ord(c) for c in "abcde"]
    assert [class_record.dominant_auroc for class_record in demo.classes] == [0.9, 0.8, 0.7, 0.6, 0.5]
    rows = {correlation.statistic: correlation for correlation in demo.correlations}
    # classes a, b, d, e; c has no cue and is in none of them
    drops = [1.0, 0.5, 0.1, 0.0]
    expected = {
        "alpha_hat_flip": ([1, 5, 4, 99], drops),
        "alpha_hat_numerical": ([1, 5, 4, 99], drops),
        "alpha_hat_empirical": ([1, 5, 4, 99], drops),
        "edit_size_at_flip": ([1, 5, 4, 99], drops),
        "feature_redundancy": ([1, 2, 99, 3], drops),
        "alpha_hat_analytical": ([1, 3, 2], [1.0, 0.1, 0.0]),
        "accuracy": ([1, 2, 4, 5], drops),
        "image_reliance": ([0.9, 0.2, 0.1], [1.0, 0.1, 0.0]),  # b was not measured
        "redundancy": ([1, 3, 99], [1.0, 0.1, 0.0]),
    }
    assert set(rows) == set(expected)
    for name, (values, truths) in expected.items():
        assert rows[name].n == len(values)
        assert rows[name].rho == pytest.approx(stats.spearmanr(values, truths).statistic), name
