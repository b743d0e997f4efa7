"""Which images are shown: against brute force over codes and thresholds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from salve_audit import load_audit
from salve_audit.reliance.by_class import SampleThresholds
from salve_audit.results import AuditResult, ClassReliance
from salve_audit.saliency.gallery import choose_images, strongest_rows

SAMPLE = Path(__file__).resolve().parents[2] / "sample_reports" / "demo"


@pytest.fixture(scope="module")
def audit() -> AuditResult:
    return load_audit(SAMPLE)


def thresholds_of(flip: np.ndarray) -> SampleThresholds:
    n, unused = len(flip), np.zeros(len(flip))
    whole = np.zeros(n, dtype=np.int64)
    return SampleThresholds(whole, whole, unused, unused, unused, flip, np.ones(n), unused.astype(str))


def world(n_classes: int, n: int = 400, m: int = 80) -> tuple[np.ndarray, SampleThresholds, np.ndarray]:
    """Codes with many zeros, thresholds with NaN and infinity, labels."""
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(n, m)) * (rng.random((n, m)) < 0.1)
    flip = rng.exponential(size=n)
    flip[rng.random(n) < 0.3] = np.nan
    flip[rng.random(n) < 0.3] = np.inf
    return codes.astype(np.float32), thresholds_of(flip), rng.integers(0, n_classes, size=n)


def many_classes(class_record: ClassReliance, n: int) -> list[ClassReliance]:
    """Class i depends on feature i mod 70; the later, the more fragile; every tenth never flips."""
    made = []
    for i in range(n):
        flip = dataclasses.replace(class_record.alpha_hat.flip, median=None if i % 10 == 3 else 1000.0 - i)
        alpha_hat = dataclasses.replace(class_record.alpha_hat, flip=flip)
        made.append(
            dataclasses.replace(class_record, index=i, name=str(i), dominant_feature=i % 70, alpha_hat=alpha_hat)
        )
    return made


def test_strongest_rows_are_those_of_a_sort_and_never_silent_ones() -> None:
    codes = np.array([0.0, -3.0, 2.0, 0.0, 2.5, -0.1])
    assert strongest_rows(codes, 3) == (1, 4, 2)
    assert strongest_rows(codes, 6) == (1, 4, 2, 5)
    assert strongest_rows(np.zeros(4), 3) == ()
    assert strongest_rows(np.array([1.0, -1.0, 1.0]), 2) == (0, 1), "equal ones in the order of the data"


def test_every_dominant_and_shared_feature_has_its_strongest_images(audit: AuditResult) -> None:
    codes, thresholds, labels = world(8)
    chosen = choose_images(audit.classes, audit.features, codes, thresholds, labels)
    order = sorted(audit.classes, key=lambda class_record: class_record.alpha_hat.flip.median or np.inf)
    assert [feature.index for feature in chosen.features][: len(order)] == [
        class_record.dominant_feature for class_record in order
    ]
    shared = {feature.index for feature in audit.features if feature.cross_class}
    assert {feature.index for feature in chosen.features} == shared | {
        class_record.dominant_feature for class_record in order
    }
    assert chosen.n_features_left_out == chosen.n_classes_left_out == 0
    for feature in chosen.features:
        strength = np.abs(codes[:, feature.index])
        assert len(feature.rows) == 5
        np.testing.assert_allclose(strength[list(feature.rows)], np.sort(strength)[::-1][:5])


def test_fragile_images_are_right_and_flip_at_the_lowest_strengths(audit: AuditResult) -> None:
    codes, thresholds, labels = world(8)
    chosen = choose_images(audit.classes, audit.features, codes, thresholds, labels)
    assert len(chosen.classes) == 8
    for class_record in chosen.classes:
        own = thresholds.flip[labels == class_record.record.index]
        assert len(class_record.rows) == 3
        assert (labels[list(class_record.rows)] == class_record.record.index).all()
        np.testing.assert_allclose(thresholds.flip[list(class_record.rows)], np.sort(own[np.isfinite(own)])[:3])
    shown = {row for each in (*chosen.features, *chosen.classes) for row in each.rows}
    assert chosen.rows == tuple(sorted(shown))


def test_a_class_that_never_flips_has_no_fragile_images(audit: AuditResult) -> None:
    codes, thresholds, labels = world(8)
    never = dataclasses.replace(thresholds, flip=np.where(labels == 2, np.inf, thresholds.flip))
    rows = {
        class_record.record.index: class_record.rows
        for class_record in choose_images(audit.classes, (), codes, never, labels).classes
    }
    assert rows[2] == ()
    assert all(len(own) == 3 for index, own in rows.items() if index != 2)


def test_very_many_classes_are_capped_the_most_fragile_first_and_counted(audit: AuditResult) -> None:
    classes = many_classes(audit.classes[0], 1000)
    shared = [dataclasses.replace(audit.features[0], index=70 + i, cross_class=True) for i in range(10)]
    codes, thresholds, labels = world(1000)
    chosen = choose_images(classes, shared, codes, thresholds, labels)
    order = [class_record for class_record in reversed(classes) if class_record.alpha_hat.flip.median is not None]
    assert [class_choice.record.index for class_choice in chosen.classes] == [
        class_record.index for class_record in order[:16]
    ]
    assert chosen.n_classes_left_out == 1000 - 16
    indices = [feature.index for feature in chosen.features]
    assert len(indices) == len(set(indices)) == 64
    assert chosen.n_features_left_out == 80 - 64
    assert {70 + i for i in range(10)} <= set(indices), "shared features are not crowded out"
    first = list(dict.fromkeys(class_record.dominant_feature for class_record in order))
    assert indices[:48] == first[:48]
    assert len(chosen.rows) <= 64 * 3 + 16 * 3


def test_classes_without_a_right_image_are_left_out(audit: AuditResult) -> None:
    codes, thresholds, labels = world(8)
    wrong = [
        dataclasses.replace(class_record, n_correct=0) if class_record.index == 1 else class_record
        for class_record in audit.classes
    ]
    chosen = choose_images(wrong, audit.features, codes, thresholds, labels)
    assert 1 not in [class_record.record.index for class_record in chosen.classes]
