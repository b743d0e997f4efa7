"""The autoencoder on its own: any activations in, the same kind out."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from salve_audit import SparseAutoencoder, load_sae
from salve_audit.errors import ResultError, SalveError, UsageError

N, D, M = 300, 12, 16


@pytest.fixture(scope="module")
def acts() -> np.ndarray:
    """Sums of few of eight directions, with a little noise."""
    rng = np.random.default_rng(0)
    codes = np.maximum(rng.normal(size=(N, 8)) - 0.8, 0)
    return (codes @ rng.normal(size=(8, D)) + 0.01 * rng.normal(size=(N, D))).astype(np.float32)


@pytest.fixture(scope="module")
def sae(acts: np.ndarray) -> SparseAutoencoder:
    """Top-3 of 16."""
    return SparseAutoencoder("topk", n_latents=M, sparsity=3).fit(acts)


def test_it_is_fitted_without_labels_or_head(sae: SparseAutoencoder, acts: np.ndarray) -> None:
    codes = sae.transform(acts)
    assert codes.shape == (N, M)
    assert (codes != 0).sum(1).max() == 3
    error = np.square(acts - sae.inverse_transform(codes)).sum() / np.square(acts - acts.mean(0)).sum()
    assert error < 0.1
    np.testing.assert_allclose(np.linalg.norm(sae.dictionary, axis=1), 1, rtol=1e-5)
    assert repr(sae) == "SparseAutoencoder('topk'), 16 latents of 12 activations"


def test_the_same_seed_gives_the_same_and_random_states_stay(sae: SparseAutoencoder, acts: np.ndarray) -> None:
    before = torch.get_rng_state()
    with torch.no_grad():
        again = SparseAutoencoder("topk", n_latents=M, sparsity=3).fit(torch.from_numpy(acts))
    assert again.dictionary.tobytes() == sae.dictionary.tobytes()
    assert torch.get_rng_state().equal(before)
    assert SparseAutoencoder("topk", M, sparsity=3, seed=1).fit(acts).dictionary.tobytes() != sae.dictionary.tobytes()


def test_the_sparsity_is_searched_by_r2(acts: np.ndarray) -> None:
    found = SparseAutoencoder("linear-l1", n_latents=M).fit(acts)
    recon = found.inverse_transform(found.transform(acts))
    assert 1 - np.square(acts - recon).sum() / np.square(acts - acts.mean(0)).sum() > 0.85


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64])
def test_arrays_give_arrays_of_their_type(dtype: Any, sae: SparseAutoencoder, acts: np.ndarray) -> None:
    given = acts[:4].astype(dtype)
    codes = sae.encode(given)
    assert isinstance(codes, np.ndarray)
    assert codes.dtype == (dtype if np.issubdtype(dtype, np.floating) else np.float32)
    expected = np.sort(np.abs(sae.trained.encode(given.astype(np.float32))))
    np.testing.assert_allclose(np.sort(np.abs(codes)), expected, rtol=2e-3)
    assert sae.decode(codes).shape == (4, D)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensors_give_tensors_of_their_type_with_gradients(
    dtype: torch.dtype, sae: SparseAutoencoder, acts: np.ndarray
) -> None:
    given = torch.from_numpy(acts[:12]).to(dtype).reshape(3, 4, D).requires_grad_()
    codes = sae.encode(given)
    assert (codes.dtype, tuple(codes.shape)) == (dtype, (3, 4, M))
    sae.decode(codes).float().sum().backward()
    assert given.grad is not None
    assert given.grad.abs().sum() > 0
    with torch.no_grad():
        np.testing.assert_array_equal(
            sae.encode(torch.from_numpy(acts)).numpy(), sae.encode(acts)
        )  # as in numpy, bit for bit
        assert not sae.encode(torch.from_numpy(acts)).requires_grad


def test_it_is_saved_loaded_and_pickled(sae: SparseAutoencoder, acts: np.ndarray, tmp_path: Path) -> None:
    path = sae.save(tmp_path / "new" / "sae.safetensors")
    for other in (
        load_sae(path),
        load_sae(path.parent),
        SparseAutoencoder.load(str(path)),
        pickle.loads(pickle.dumps(sae)),
    ):
        assert other.encode(acts).tobytes() == sae.encode(acts).tobytes()
    assert [file.name for file in path.parent.iterdir()] == ["sae.safetensors"]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ResultError, match="not a safetensors file"):
        load_sae(path)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda sae, acts: SparseAutoencoder("top-k"), "variant: 'top-k' is not one of auto, linear-l1"),
        (lambda sae, acts: SparseAutoencoder("supervised"), "variant: 'supervised' is not one of"),
        (lambda sae, acts: SparseAutoencoder("topk", "256"), "n_latents: expected int, got str"),
        (lambda sae, acts: SparseAutoencoder("topk", seed=-1), "seed: -1 is below 0"),
        (lambda sae, acts: SparseAutoencoder("topk", seed=2**70), "seed: 1180591620717411303424 is above"),
        (lambda sae, acts: SparseAutoencoder("topk", sparsity=float("nan")), "sparsity: nan is not a positive"),
        (lambda sae, acts: SparseAutoencoder().set_params(k=3), "k: is no argument"),
        (lambda sae, acts: SparseAutoencoder().set_params(n_latents=1), "n_latents: 1 is below 2"),
        (lambda sae, acts: SparseAutoencoder("topk", 1), "n_latents: 1 is below 2"),
        (lambda sae, acts: SparseAutoencoder("topk", sparsity=-1), "sparsity: -1 is not a positive number"),
        (lambda sae, acts: SparseAutoencoder("topk").encode(acts), "SparseAutoencoder: is not fitted"),
        (lambda sae, acts: SparseAutoencoder("topk").fit(acts.tolist()), "acts: expected a numpy array or a torch"),
        (lambda sae, acts: SparseAutoencoder("topk").fit(acts[0]), "acts: expected (n, d) activations"),
        (lambda sae, acts: SparseAutoencoder("topk").fit(acts * np.nan), "activations: 300 of 300 samples hold NaN"),
        (lambda sae, acts: sae.encode(acts[:, :3]), "acts: expected (..., 12), got (300, 3)"),
        (lambda sae, acts: sae.decode(acts), "acts: expected (..., 16), got (300, 12)"),
        (lambda sae, acts: sae.encode([1, 2]), "acts: expected a numpy array or a torch tensor of numbers, got list"),
        (lambda sae, acts: load_sae("gone"), "gone: no such file"),
        (lambda sae, acts: load_sae(sae), "load_sae: expected a path or a result, got SparseAutoencoder"),
    ],
)
def test_what_is_wrong_is_one_clear_error(run: Any, message: str, sae: SparseAutoencoder, acts: np.ndarray) -> None:
    with pytest.raises(SalveError) as raised:
        run(sae, acts)
    assert str(raised.value).startswith(message)


def test_it_is_cloned_as_scikit_learn_clones(sae: SparseAutoencoder, acts: np.ndarray) -> None:
    given = SparseAutoencoder("topk", np.int64(16), sparsity=np.float32(4), seed=np.int64(0))
    again = type(given)(**given.get_params(deep=False))  # what sklearn.base.clone does
    assert all(value is given.get_params()[name] for name, value in again.get_params().items())
    assert again.fit(acts).transform(acts).shape == (len(acts), 16)
    with pytest.raises(UsageError, match="is not fitted"):
        again.set_params(seed=3).encode(acts)


def test_where_there_are_no_labels_nothing_is_said_of_accuracy(caplog: pytest.LogCaptureFixture) -> None:
    noise = np.random.default_rng(0).normal(size=(60, 40)).astype(np.float32)
    with caplog.at_level("INFO"):
        SparseAutoencoder("topk", 8, sparsity=2).fit(noise)
    assert "accuracy" not in caplog.text
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert warning.startswith("the autoencoder reconstructs little of held-out activations: R² ")
