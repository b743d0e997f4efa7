"""Where accuracy comes down to a share, against the definition on random events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salve_audit.reliance.crossings import count_wrong, first_at_most, first_at_most_half
from salve_audit.reliance.margins import MarginEvents


def events_of(windows: list[tuple[float, float]]) -> MarginEvents:
    """Each sample is right on one open interval of strengths."""
    low, high = np.array(windows, dtype=float).reshape(-1, 2).T
    correct = (low < 0) & (high > 0)
    exists = (low < high) & (high > 0)
    return MarginEvents(
        correct=correct,
        flip=np.where(correct, high, np.nan),
        down=high[exists & np.isfinite(high)],
        up=low[exists & (low >= 0)],
    )


def accuracy_at(windows: list[tuple[float, float]], strength: float) -> float:
    return float(np.mean([low < strength < high for low, high in windows]))


edge = st.integers(-3, 8).map(float)
window = st.tuples(edge | st.just(-np.inf), edge | st.just(np.inf))


@given(windows=st.lists(window, min_size=1, max_size=12), share=st.sampled_from([0.0, 0.05, 0.25, 0.5, 0.9, 1.0]))
def test_the_first_strength_is_that_of_the_definition(windows: list[tuple[float, float]], share: float) -> None:
    # Accuracy changes only at whole strengths, and is lower at one of them or right after it.
    candidates = [float(at) for at in np.arange(0.0, 12.0, 0.5)]
    expected = next((at for at in candidates if accuracy_at(windows, at) <= share + 1e-12), np.inf)
    assert first_at_most(events_of(windows), share) == np.floor(expected)


def test_a_dip_of_any_width_is_seen() -> None:
    events = events_of([(-1.0, 2.0)] * 6 + [(2.0 + 1e-9, np.inf)] * 4)
    assert first_at_most(events, 0.05) == 2.0
    assert first_at_most(events, 0.6) == 0.0
    assert first_at_most_half(events) == 2.0


def test_a_share_equal_to_the_accuracy_counts() -> None:
    events = events_of([(-1.0, 3.0)] * 475 + [(-1.0, np.inf)] * 25)
    assert first_at_most(events, 0.05) == 3.0
    assert first_at_most(events, 0.0499) == np.inf


def test_without_samples_there_is_no_strength() -> None:
    assert np.isnan(first_at_most(events_of([]), 0.5))


def test_wrong_samples_are_counted_from_zero_on() -> None:
    strengths, wrong = count_wrong(events_of([(-1.0, 1.0), (1.0, 4.0), (-1.0, np.inf)]))
    np.testing.assert_array_equal(strengths, [0.0, 1.0, 1.0, 4.0])
    np.testing.assert_array_equal(wrong, [1, 2, 1, 2])
    assert first_at_most(events_of([(-1.0, 1.0), (1.0, 4.0), (-1.0, np.inf)]), 1 / 3) == pytest.approx(1.0)
