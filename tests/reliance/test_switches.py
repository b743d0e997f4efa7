"""Changes of predictions under suppression against the predictions themselves, at strengths in between."""

from __future__ import annotations

import numpy as np
import pytest

from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.reliance.scaling import Samples, suppressing
from salve_audit.reliance.switches import find_switches


@pytest.mark.parametrize("seed", range(6))
def test_replayed_changes_give_the_predictions_at_any_strength(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, d, k = 60, 9, 4
    acts = np.abs(rng.standard_normal((n, d))).astype(np.float32)
    head = LinearHead(rng.standard_normal((k, d)).astype(np.float32), rng.standard_normal(k).astype(np.float32), "fc")
    coupling = np.abs(rng.standard_normal(d))
    coupling[: seed % 3] = 0.0  # never clamped
    samples = Samples(acts, rng.integers(0, k, n), head)
    switches = find_switches(samples, coupling, 12.0)
    assert (np.diff(switches.alpha_hat) >= 0).all()

    def predict(strength: float) -> np.ndarray:
        weight = head.weight.astype(np.float64) * suppressing(coupling, strength)
        return (acts.astype(np.float64) @ weight.T + head.bias).argmax(1)

    strengths = np.sort(rng.uniform(0, 12.0, 40))
    state, place = predict(0.0), 0
    assert len(switches.alpha_hat) >= 2
    for strength in strengths:
        while place < len(switches.alpha_hat) and switches.alpha_hat[place] <= strength:
            row = switches.sample[place]
            assert state[row] == switches.before[place]
            state[row] = switches.after[place]
            place += 1
        np.testing.assert_array_equal(state, predict(float(strength)))


def test_nothing_changes_without_samples() -> None:
    head = LinearHead(np.eye(2, 3, dtype=np.float32), np.zeros(2, np.float32), "fc")
    empty = Samples(np.zeros((0, 3), np.float32), np.zeros(0, np.int64), head)
    assert len(find_switches(empty, np.ones(3), 5.0).alpha_hat) == 0
