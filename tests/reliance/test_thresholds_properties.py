"""Thresholds against a brute-force evaluation, invariances and edge cases."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salve_audit import SalveError, Thresholds, thresholds
from salve_audit.reliance import margins


@pytest.fixture(autouse=True, scope="module", params=["few pairs", "many pairs"])
def blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    """All tests twice: as small cases are worked out, and in wide, middle and narrow blocks as large ones are."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "many pairs":
            for name, size in {"MANY_PAIRS": 0, "WIDE": 16, "MIDDLE": 8, "NARROW": 2}.items():
                patch.setattr(margins, name, size)
        yield


def make_case(seed: int, n: int = 12, d: int = 9, k: int = 4, signed: bool = True) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(k, d))
    acts = rng.normal(size=(n, d)) + weight[0] * rng.uniform(0.2, 1.5)
    coupling = np.abs(rng.normal(size=d)) * rng.choice([0.0, 1.0], size=d, p=[0.15, 0.85])
    bias = rng.normal(size=k) * 0.1
    return {"acts": acts if signed else np.maximum(acts, 0), "weight": weight, "bias": bias, "coupling": coupling}


def logits_at(case: dict[str, np.ndarray], alpha: float) -> np.ndarray:
    scale = np.maximum(0.0, 1.0 - alpha * case["coupling"])
    return (case["acts"] * scale) @ case["weight"].T + case["bias"]


def margins_at(case: dict[str, np.ndarray], alpha: float, target: int) -> np.ndarray:
    logits = logits_at(case, alpha)
    return logits[:, target] - np.delete(logits, target, axis=1).max(1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), signed=st.booleans(), k=st.integers(2, 6), d=st.integers(1, 80))
def test_flip_and_numerical_agree_with_a_dense_grid(seed: int, signed: bool, k: int, d: int) -> None:
    """Between grid points nothing is missed: the sign is the original one up to the threshold and changes at it."""
    case = make_case(seed, d=d, k=k, signed=signed)
    result = thresholds(**case, target=0)
    coupled = case["coupling"][case["coupling"] > 0]
    last = 1.0 / coupled.min() if len(coupled) else 1.0
    grid = np.concatenate([np.linspace(0, min(last, 50), 700), 1.0 / coupled])
    for n, flip in enumerate(result.flip):
        start = margins_at(case, 0.0, 0)[n]
        if np.isnan(flip):
            assert start <= 0
            continue
        assert start > 0
        before = [margins_at(case, a, 0)[n] for a in grid[grid < flip * (1 - 1e-9)][::7]]
        assert min(before, default=1.0) > -1e-9
        if np.isfinite(flip):
            assert abs(margins_at(case, flip, 0)[n]) < 1e-9 * (1 + np.abs(case["acts"]).sum())
    own = logits_at(case, 0.0)[:, 0] - case["bias"][0]
    for n, root in enumerate(result.numerical):
        assert np.isnan(root) == (own[n] <= 0)
        if np.isfinite(root):
            assert abs(logits_at(case, root)[n, 0] - case["bias"][0]) < 1e-9 * (1 + np.abs(case["acts"]).sum())
            earlier = [logits_at(case, a)[n, 0] - case["bias"][0] for a in grid[grid < root * (1 - 1e-9)][::7]]
            assert min(earlier, default=1.0) > -1e-9


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(2, 5), d=st.integers(1, 70))
def test_empirical_is_the_first_strength_with_at_most_half_correct(seed: int, k: int, d: int) -> None:
    case = make_case(seed, n=15, d=d, k=k)
    result = thresholds(**case, target=0)

    def share(alpha: float) -> float:
        return float((margins_at(case, alpha, 0) > 0).mean())

    coupled = case["coupling"][case["coupling"] > 0]
    edges = np.unique(np.concatenate([[0.0], 1.0 / coupled, np.linspace(0, 40, 700)]))
    reached = [a for a in edges if share(a) <= 0.5]
    if np.isfinite(result.empirical):
        later = result.empirical * (1 + 1e-9) + 1e-12
        assert share(result.empirical) <= 0.5 or share(later) <= 0.5
        assert all(a >= result.empirical * (1 - 1e-9) for a in reached)
    else:
        # ties exactly at "every weight gone" may be decided by rounding; nowhere else may it be reached
        assert all(a >= edges.max() * (1 - 1e-12) for a in reached)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-6, 1e6))
def test_alpha_hat_does_not_depend_on_the_scale_of_the_dictionary(seed: int, scale: float) -> None:
    """z -> t z, D -> D / t changes alpha by t and alpha_hat not at all."""
    case = make_case(seed)
    result = thresholds(**case, target=0)
    scaled = thresholds(case["acts"], case["weight"], case["bias"], case["coupling"] / scale, target=0)
    for field in ("analytical", "numerical", "flip", "empirical"):
        np.testing.assert_allclose(getattr(scaled, field), getattr(result, field) * scale, rtol=1e-9)
    assert result.status.tolist() == scaled.status.tolist()


@given(seed=st.integers(0, 500))
@settings(max_examples=20, deadline=None)
def test_float32_and_tensors_are_taken_as_the_numbers_they_hold(seed: int) -> None:
    case = {key: value.astype(np.float32) for key, value in make_case(seed).items()}
    single = thresholds(**case, target=1)
    double = thresholds(**{key: value.astype(np.float64) for key, value in case.items()}, target=1)
    tensors = thresholds(**{key: torch.from_numpy(value) for key, value in case.items()}, target=1)
    for field in ("analytical", "numerical", "flip", "empirical"):
        np.testing.assert_array_equal(getattr(single, field), getattr(double, field))
        np.testing.assert_array_equal(getattr(tensors, field), getattr(double, field))
        assert np.asarray(getattr(single, field)).dtype == np.float64


def test_many_rivals_and_coordinates_agree_with_one_sample_at_a_time() -> None:
    """Blocks, bounds and chunks change nothing: the whole equals its parts, across several blocks."""
    case = make_case(3, n=40, d=300, k=60)
    whole = thresholds(**case, target=0)
    for n in range(0, 40, 7):
        part = thresholds(case["acts"][n : n + 1], case["weight"], case["bias"], case["coupling"], target=0)
        np.testing.assert_allclose(part.flip, whole.flip[n : n + 1], rtol=1e-9)
    for n, flip in enumerate(whole.flip):
        if np.isfinite(flip):
            assert abs(margins_at(case, flip, 0)[n]) < 1e-9
            grid = np.concatenate([1 / case["coupling"][case["coupling"] > 0], np.linspace(0, flip, 400)])
            assert all(margins_at(case, a, 0)[n] > 0 for a in grid[grid < flip * (1 - 1e-9)])


def test_no_samples() -> None:
    result = thresholds(np.empty((0, 3)), np.ones((2, 3)), None, np.ones(3), 0)
    assert result.flip.shape == result.numerical.shape == result.analytical.shape == result.status.shape == (0,)
    assert np.isnan(result.empirical)


def test_one_sample_one_coordinate_by_hand() -> None:
    # y_0 = 2 (1 - α/2) , y_1 = 0.5: flips at α = 1.5, the logit vanishes at α = 2 where the only weight is gone
    result = thresholds([[1.0]], [[2.0], [0.0]], [0.0, 0.5], [0.5], 0)
    np.testing.assert_allclose(result.flip, [1.5])
    np.testing.assert_allclose(result.numerical, [2.0])
    np.testing.assert_allclose(result.analytical, [2.0])
    assert result.status.tolist() == ["erased"]
    assert result.empirical == pytest.approx(1.5)


def test_a_single_class_never_flips() -> None:
    result = thresholds(np.ones((2, 3)), np.ones((1, 3)), None, np.ones(3), 0)
    assert np.isinf(result.flip).all()
    assert np.isinf(result.empirical)


def test_all_zero_coupling_changes_nothing() -> None:
    case = make_case(0) | {"coupling": np.zeros(9)}
    result = thresholds(**case, target=0)
    correct = margins_at(case, 0.0, 0) > 0
    assert np.isinf(result.flip[correct]).all()
    assert np.isnan(result.flip[~correct]).all()
    assert set(result.status.tolist()) <= {"never", "not_applicable"}
    assert np.isnan(result.analytical).all()
    assert result.empirical == (0.0 if 2 * correct.sum() <= len(correct) else np.inf)


def test_recovery_is_seen_by_the_empirical_threshold() -> None:
    """One sample is wrong at first and recovers before the other falls: never more than half are wrong for long."""
    weight = np.array([[1.0, 0.0], [0.0, 1.0]])
    acts = np.array([[1.0, 1.2], [1.0, 0.9], [1.0, 0.1]])
    result = thresholds(acts, weight, np.array([0.0, 0.0]), np.array([0.2, 1.0]), 0)
    # suppression exhausts the rival's coordinate at α = 1, so the first sample turns correct and stays so until the end
    assert not result.correct[0]
    assert result.empirical >= 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"acts": np.ones(3)}, r"expected acts \(n, d\), weight \(k, d\), coupling \(d,\), got \(3,\)"),
        ({"bias": np.ones(3)}, r"bias: expected \(4,\), got \(3,\)"),
        ({"target": 9}, r"target: 9 is not in 0\.\.3"),
        ({"acts": [[1.0], [1.0, 2.0]]}, "acts: expected an array of numbers, got list"),
        ({"coupling": -np.ones(9)}, "coupling: must not be negative, got -1.0"),
        ({"weight": np.full((4, 9), np.nan)}, "weight: has values that are not finite"),
    ],
)
def test_wrong_arguments(change: dict[str, object], message: str) -> None:
    arguments = {**make_case(0), "target": 0, **change}
    with pytest.raises(ValueError, match=message) as raised:
        thresholds(**arguments)
    assert isinstance(raised.value, SalveError)


def test_result_type() -> None:
    assert isinstance(thresholds(**make_case(1), target=0), Thresholds)
