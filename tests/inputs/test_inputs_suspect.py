"""Predictions that say the mapping of classes to outputs is wrong."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from salve_audit.inputs.labels.suspect import suspect_mapping


def predictions(labels: np.ndarray, order: list[int], accuracy: float, seed: int = 0) -> np.ndarray:
    """Outputs of a model that is right that often, its outputs renamed by `order`."""
    rng = np.random.default_rng(seed)
    right = rng.random(len(labels)) < accuracy
    return np.asarray(order)[np.where(right, labels, rng.integers(0, len(order), len(labels)))]


@pytest.fixture
def labels() -> np.ndarray:
    return np.repeat(np.arange(4), 50)


def test_a_model_that_is_right_is_not_suspected(labels) -> None:
    assert suspect_mapping(predictions(labels, [0, 1, 2, 3], 0.9), labels, 4) is None
    assert suspect_mapping(predictions(labels, [0, 1, 2, 3], 0.3), labels, 4) is None


def test_the_best_order_is_that_of_brute_force(labels) -> None:
    predicted = predictions(labels, [2, 0, 3, 1], 0.8)
    text = suspect_mapping(predicted, labels, 4, ["a", "b", "c", "d"])
    best = max(np.mean(predicted == np.asarray(order)[labels]) for order in itertools.permutations(range(4)))
    assert text is not None
    assert "no better than chance" in text
    assert "a -> output 2, b -> output 0, c -> output 3, d -> output 1" in text
    assert f"would give {100 * best:.1f} %" in text


def test_logits_are_taken_too(labels) -> None:
    predicted = predictions(labels, [1, 2, 3, 0], 0.9)
    assert suspect_mapping(np.eye(4)[predicted], labels, 4) == suspect_mapping(predicted, labels, 4)


def test_an_order_that_is_wrong_in_part_is_told_above_chance() -> None:
    """Twelve folders called 0 to 11 and sorted as text: 0 and 1 stay, ten others move."""
    labels = np.repeat(np.arange(12), 30)
    by_text = sorted(range(12), key=str)
    text = suspect_mapping(np.asarray(by_text)[labels], labels, 12)
    assert text is not None
    assert "would give 100.0 %" in text
    assert "chance" not in text


def test_two_classes_out_of_ten_that_are_exchanged() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 30)
    right = np.where(rng.random(300) < 0.85, labels, rng.integers(0, 10, 300))
    assert suspect_mapping(right, labels, 10) is None
    exchanged = np.array([0, 1, 2, 5, 4, 3, 6, 7, 8, 9])
    text = suspect_mapping(right, exchanged[labels], 10)
    assert text is not None
    assert "(3 -> output 5, 5 -> output 3)" in text


def test_two_classes_that_a_weak_model_mixes_up_are_not_exchanged() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(10), 30)
    either = np.where(np.isin(labels, (3, 5)), rng.choice([3, 5], 300, p=[0.55, 0.45]), labels)
    either[labels == 3] = rng.choice([3, 5], 30, p=[0.4, 0.6])
    either[labels == 5] = rng.choice([3, 5], 30, p=[0.6, 0.4])
    assert suspect_mapping(either, labels, 10) is None


def test_a_model_that_knows_nothing_gets_no_order(labels) -> None:
    for seed in range(5):
        predicted = np.random.default_rng(seed).integers(0, 4, len(labels))
        text = suspect_mapping(predicted, labels, 4)
        assert text is None or text.endswith("no other order of its outputs would fit.")


def test_a_subset_of_many_outputs(labels) -> None:
    order = [101, 7, 950, 33]
    text = suspect_mapping(np.asarray(order)[labels], labels, 1000)
    assert text is not None
    assert "0 -> output 101" in text
    assert "would give 100.0 %" in text


def test_nothing_to_judge() -> None:
    assert suspect_mapping(np.zeros(0, int), np.zeros(0, int), 3) is None
