"""Logits taken apart: the parts add up, whatever turns pre-activations into codes."""

from __future__ import annotations

import numpy as np
import pytest

from salve_audit.explain.decomposition import decompose
from salve_audit.explain.flips import find_flip
from salve_audit.explain.run import score_classes
from salve_audit.interventions.affine import AffineHead
from salve_audit.sae.activation import Activation
from salve_audit.sae.models import TrainedSae

D, M, K = 12, 20, 5
ACTIVATIONS = {
    "linear": Activation(),
    "relu": Activation("relu"),
    "topk": Activation("topk", k=3),
    "signed-topk": Activation("signed-topk", k=3),
    "threshold": Activation("threshold", threshold=np.full(M, 0.5, np.float32)),
}


def make_sae(activation: Activation) -> TrainedSae:
    rng = np.random.default_rng(0)
    dictionary = rng.standard_normal((M, D)).astype(np.float32)
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    parts = [rng.standard_normal(shape).astype(np.float32) for shape in ((M, D), (M,), (D,))]
    return TrainedSae("linear-l1", dictionary, *parts, {}, activation)


@pytest.fixture
def head() -> AffineHead:
    rng = np.random.default_rng(1)
    return AffineHead(rng.standard_normal((K, D)), rng.standard_normal(K))


@pytest.mark.parametrize("kind", sorted(ACTIVATIONS))
def test_the_parts_of_every_class_add_up(kind: str, head: AffineHead) -> None:
    sae, rng = make_sae(ACTIVATIONS[kind]), np.random.default_rng(2)
    for acts in rng.standard_normal((5, D)).astype(np.float32):
        codes = sae.encode(acts[None])[0].astype(np.float64)
        recon = codes @ sae.dictionary.astype(np.float64) + sae.decoder_bias
        for index in range(K):
            parts = decompose(acts.astype(np.float64), codes, sae, head, index)
            logit = head.weight[index] @ acts.astype(np.float64) + head.bias[index]
            assert parts.logit == pytest.approx(logit, abs=1e-12)
            by_hand = [
                head.weight[index] @ sae.dictionary[latent].astype(np.float64) * codes[latent] for latent in range(M)
            ]
            np.testing.assert_allclose(parts.features, by_hand, atol=1e-12)
            assert parts.error == pytest.approx(head.weight[index] @ (acts - recon), abs=1e-12)
            assert parts.head_bias == head.bias[index]
            assert (parts.features[codes == 0] == 0).all()


def test_flips_against_a_fine_grid(head: AffineHead) -> None:
    rng, names = np.random.default_rng(3), tuple("abcde")
    n_flips = 0
    for _ in range(40):
        acts, coupling = rng.standard_normal(D), np.abs(rng.standard_normal(D))
        own = int((head.weight @ acts + head.bias).argmax())
        flip = find_flip(acts, head, coupling, own, names)
        grid = np.linspace(0, 20, 20001)
        scale = np.maximum(0, 1 - grid[:, None] * coupling / coupling.max())
        winners = ((acts * scale) @ head.weight.T + head.bias).argmax(1)
        changed = np.flatnonzero(winners != own)
        if not len(changed):
            assert flip.alpha_hat is None or flip.alpha_hat > 20
            continue
        n_flips += 1
        assert flip.alpha_hat == pytest.approx(grid[changed[0]], abs=1.1e-3)
        assert flip.to == names[winners[changed[0]]]
    assert n_flips > 10


def test_a_tie_has_no_flip(head: AffineHead) -> None:
    tied = AffineHead(np.ones((2, D)), np.zeros(2))
    assert find_flip(np.ones(D), tied, np.ones(D), 0, ("a", "b")).alpha_hat is None


def test_probabilities_of_large_logits_are_finite() -> None:
    scores = score_classes(np.array([-1000.0, 1000.0, 999.0]), ("a", "b", "c"))
    assert [score.name for score in scores] == ["b", "c", "a"]
    assert scores[0].probability == pytest.approx(1 / (1 + np.exp(-1)))
    assert scores[2].probability == 0
