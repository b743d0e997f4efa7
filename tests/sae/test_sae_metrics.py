"""Metrics against loops and the traps that PEERS names."""

from __future__ import annotations

import numpy as np
import pytest

from salve_audit.errors import DataError
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.sae.metrics import count_active, explained_variance, mean_kl, measure_quality


def test_explained_variance_is_centred():
    rng = np.random.default_rng(0)
    acts, recon = rng.normal(size=(2, 30, 4))
    plain = explained_variance(acts, recon)
    assert explained_variance(acts + 1000, recon + 1000) == pytest.approx(plain, abs=1e-9)
    assert explained_variance(acts, np.broadcast_to(acts.mean(axis=0), acts.shape)) == pytest.approx(0, abs=1e-12)
    assert explained_variance(acts, acts) == 1
    by_hand = 1 - sum((acts[i] - recon[i]) @ (acts[i] - recon[i]) for i in range(30)) / sum(
        (acts[i] - acts.mean(axis=0)) @ (acts[i] - acts.mean(axis=0)) for i in range(30)
    )
    assert plain == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_explained_variance_survives_float32_extremes(scale):
    acts = (np.random.default_rng(0).normal(size=(20, 3)) * scale).astype(np.float32)
    assert explained_variance(acts, 0.5 * acts) == pytest.approx(1 - 0.25 * _uncentred(acts), rel=1e-5)


def _uncentred(acts):
    acts = acts.astype(np.float64)
    return np.square(acts).sum() / np.square(acts - acts.mean(axis=0)).sum()


def test_explained_variance_of_constant_samples_is_refused():
    with pytest.raises(DataError, match="R² is undefined"):
        explained_variance(np.ones((5, 3)), np.zeros((5, 3)))


def test_active_latents_are_counted_by_magnitude_and_per_latent():
    codes = np.array(
        [
            [-100.0, 1.00, 0.0, 0.9],
            [0.5, 1.01, 0.0, -0.9],
            [2.0, -101.0, 0.0, 0.0],
        ]
    )
    # latent 0: -100 and 2 are over 1 % of 100, 0.5 is not; latent 1: 1.01 is not over 1.01, 1.00 is not;
    # latents 2 and 3 never exceed 1 % of 101: dead, and dead latents are never active
    l0, n_dead = count_active(codes)
    assert (l0, n_dead) == (pytest.approx((1 + 0 + 2) / 3), 2)


def test_all_zero_codes_are_all_dead():
    assert count_active(np.zeros((3, 2))) == (0.0, 2)


def test_kl_against_a_loop_and_with_itself():
    rng = np.random.default_rng(0)
    a, b = 3 * rng.normal(size=(2, 20, 5))
    p, q = (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (a, b))
    assert mean_kl(a, b) == pytest.approx(np.mean([(p[i] * np.log(p[i] / q[i])).sum() for i in range(20)]))
    assert mean_kl(a, a + 7) == pytest.approx(0, abs=1e-12)
    assert np.isfinite(mean_kl(a * 1e4, b * 1e4))


def test_quality_of_a_real_autoencoder(train_quickly, world):
    sae = train_quickly("linear-l1").sae
    quality = measure_quality(sae, world.acts, world.labels, world.head)
    recon = sae.decode(sae.encode(world.acts))
    predicted = [(recon @ world.head.weight.T).argmax(axis=1), (world.acts @ world.head.weight.T).argmax(axis=1)]
    after, before = ((labels == world.labels).mean() for labels in predicted)
    assert quality.accuracy_reconstructed == pytest.approx(after)
    assert quality.accuracy_original == pytest.approx(before)
    assert quality.accuracy_kept == pytest.approx(after / before)
    assert quality.r2 == pytest.approx(explained_variance(world.acts, recon))
    assert quality.mean_abs_code == pytest.approx(np.abs(sae.encode(world.acts)).mean(), rel=1e-6)


def test_a_model_that_is_always_wrong_keeps_its_accuracy(train_quickly, world):
    wrong = LinearHead(np.zeros_like(world.head.weight), np.array([1, 0, 0, 0], dtype=np.float32), "fc")
    labels = np.full(600, 2)
    quality = measure_quality(train_quickly("linear-l1").sae, world.acts, labels, wrong)
    assert (quality.accuracy_original, quality.accuracy_kept) == (0, 1)
