"""The sample of positions, and dictionaries of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from salve_audit.errors import DataError, UsageError
from salve_audit.reliance.depth.latents import DictionarySettings, PictureSource, fit_dictionaries, sample_positions
from salve_audit.reliance.depth.latents.dictionary import measure_quality
from salve_audit.reliance.depth.latents.positions import PositionSample, share_out
from salve_audit.spatial import CutNetwork, find_spatial_layers


def planted_sample(n_pictures: int = 40, each: int = 50, seed: int = 0) -> tuple[PositionSample, np.ndarray]:
    """Positions of which each has two of eight directions; every picture has a shift of its own."""
    rng = np.random.default_rng(seed)
    rows = np.linalg.qr(rng.standard_normal((12, 12)))[0][:8]
    codes = np.zeros((n_pictures * each, 8))
    for one in codes:
        one[rng.choice(8, 2, replace=False)] = rng.uniform(1, 2, 2)
    picture = np.repeat(np.arange(n_pictures), each)
    shift = 0.2 * rng.standard_normal((n_pictures, 12))[picture]
    positions = (codes @ rows + shift + 0.02 * rng.standard_normal((len(codes), 12))).astype(np.float32)
    return PositionSample("layer", positions, picture, picture % 4, len(codes)), rows


@pytest.mark.parametrize("limit", [7, 90, 333, 10_000])
def test_shares_are_equal_between_classes_and_pictures(limit: int) -> None:
    labels = np.repeat([0, 1, 5], [3, 10, 20])
    quota = share_out(labels, 50, limit, np.random.default_rng(0))
    assert quota.sum() <= limit
    assert quota.max() <= 50
    for label in (0, 1, 5):
        own = quota[labels == label]
        assert own.max() - own.min() <= 1
        assert own.sum() == min(limit // 3, 50 * len(own))


def test_sampled_positions_are_the_layers_own_and_pictures_are_loaded_in_batches(family: Any) -> None:
    classifier = family("resnet10t")
    images = torch.randn(10, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    layer = next(one for one in find_spatial_layers(classifier, images) if one.name == "layer1")
    loaded: list[int] = []

    def load(rows: np.ndarray) -> torch.Tensor:
        loaded.append(len(rows))
        return images[torch.from_numpy(rows)]

    source = PictureSource(np.arange(10) % 2, load)
    with CutNetwork(classifier.model, layer, classifier.reader) as cut:
        sample = sample_positions(cut, source, np.random.default_rng(0), limit=101, batch_size=4)
    seen: list[torch.Tensor] = []
    handle = classifier.model.layer1.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        classifier.model(images)
    handle.remove()
    assert loaded == [4, 4, 2]
    assert len(sample) == 100
    assert sample.n_pictures == 10
    assert sample.share == 100 / (10 * layer.layout.n_positions)
    for row in range(10):
        own = seen[0][row].flatten(1).T.numpy()
        drawn = sample.positions[sample.picture == row]
        distance = np.abs(drawn[:, None] - own[None]).max(2)
        assert distance.min(1).max() < 1e-5
        assert len(set(distance.argmin(1).tolist())) == len(drawn), "without replacement"


def test_standard_errors_are_those_of_drawing_other_pictures() -> None:
    sample, _ = planted_sample()
    rng = np.random.default_rng(1)
    (dictionary,) = fit_dictionaries(sample, DictionarySettings(n_latents=8, n_active=2, n_steps=100))
    scale = np.sqrt(np.square(sample.positions - sample.positions.mean(0)).sum(1).mean())
    per_picture = sample.positions.reshape(40, 50, 12).mean(1)
    drawn = np.array([per_picture[rng.integers(40, size=40)].mean(0) for _ in range(4000)])
    brute = np.sqrt(drawn.var(0).sum()) / scale
    assert sample.mean_error == pytest.approx(brute, rel=0.1)
    naive = 1 / np.sqrt(len(sample))
    assert sample.mean_error > 1.5 * naive, "positions of one picture are alike"
    quality = dictionary.quality
    assert 4 <= quality.n_pictures <= 8
    assert quality.n_positions == 50 * quality.n_pictures


def test_error_of_explained_variance_covers_other_pictures() -> None:
    sample, _ = planted_sample()
    (dictionary,) = fit_dictionaries(sample, DictionarySettings(n_latents=6, n_active=2, n_steps=100))
    whole = measure_quality(dictionary.sae, sample, np.arange(len(sample)))
    rng = np.random.default_rng(0)
    left = np.square(sample.positions - dictionary.sae.decode(dictionary.sae.encode(sample.positions))).sum(1)
    total = np.square(sample.positions - sample.positions.mean(0)).sum(1)
    left, total = left.reshape(40, 50).sum(1), total.reshape(40, 50).sum(1)
    picks = rng.integers(40, size=(4000, 40))
    drawn = 1 - left[picks].sum(1) / total[picks].sum(1)
    assert whole.r2 == pytest.approx(1 - left.sum() / total.sum(), rel=1e-4)
    assert whole.r2_error == pytest.approx(drawn.std(), rel=0.15)


@pytest.mark.parametrize("variant", ["topk", "batchtopk", "matryoshka"])
def test_planted_directions_are_found_by_every_seed_and_again(variant: str) -> None:
    sample, rows = planted_sample()
    settings = DictionarySettings(variant, n_latents=16, n_active=2, n_seeds=2, n_steps=250)
    fitted = fit_dictionaries(sample, settings)
    again = fit_dictionaries(sample, settings)
    assert not np.array_equal(fitted[0].sae.dictionary, fitted[1].sae.dictionary)
    for one, other in zip(fitted, again, strict=True):
        np.testing.assert_array_equal(one.sae.dictionary, other.sae.dictionary)
        assert one.quality.r2 > 0.8
        cosine = (rows @ one.sae.dictionary[one.alive].T).max(1)
        assert (cosine > 0.85).mean() >= 0.75, cosine
    positions = torch.from_numpy(sample.positions[:100]).view(2, 50, 12)
    codes = fitted[0].encode(positions)
    np.testing.assert_allclose(codes.flatten(0, 1), fitted[0].sae.encode(sample.positions[:100]), atol=1e-6)
    recon = fitted[0].sae.decode(fitted[0].sae.encode(sample.positions[:100]))
    np.testing.assert_allclose(fitted[0].decode(codes).flatten(0, 1), recon, atol=1e-5)


def test_what_cannot_be_trained_is_refused() -> None:
    sample, _ = planted_sample()
    with pytest.raises(UsageError, match="keeps no number of codes"):
        fit_dictionaries(sample, DictionarySettings("linear-l1"))
    with pytest.raises(UsageError, match="9 codes of 8 latents"):
        fit_dictionaries(sample, DictionarySettings(n_latents=8, n_active=9))
    few, _ = planted_sample(n_pictures=3)
    with pytest.raises(DataError, match="3 pictures are too few"):
        fit_dictionaries(few, DictionarySettings(n_latents=8, n_active=2))
    sample.positions[7, 3] = np.nan
    with pytest.raises(DataError, match="NaN or infinite"):
        fit_dictionaries(sample, DictionarySettings(n_latents=8, n_active=2))
