"""Codes kept over a batch: how many, the threshold that takes the batch's place, and nested prefixes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from salve_audit.errors import ResultError
from salve_audit.sae.batchtopk import (
    MEMORY,
    batchtopk_loss,
    batchtopk_parameters,
    fold_batchtopk,
    keep_largest_of_batch,
    matryoshka_loss,
    matryoshka_parameters,
    prefix_lengths,
)
from salve_audit.sae.files import read_sae, serialise_sae
from salve_audit.sae.parameters import encode_linear, unit_rows

pytestmark = pytest.mark.slow


def make_problem(initialise=batchtopk_parameters, m: int = 8) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    acts = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    return initialise(acts, m, [torch.Generator().manual_seed(seed) for seed in (0, 1)]), acts


@pytest.mark.parametrize("n", [1, 7, 50])
def test_k_times_the_batch_are_kept_not_k_per_sample_and_not_k(n):
    pre = torch.rand(2, n, 8, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.1, 3, n)[:, None]
    codes = keep_largest_of_batch(pre, 3)
    assert (codes != 0).sum((1, 2)).tolist() == [3 * n, 3 * n]
    for s in range(2):
        smallest = pre[s].flatten().sort(descending=True).values[3 * n - 1]
        torch.testing.assert_close(codes[s], pre[s] * (pre[s] >= smallest))
    if n == 50:
        assert (codes != 0).sum(-1).float().std() > 1  # samples that need more have more


def test_negative_values_are_never_kept():
    pre = -torch.rand(1, 4, 8, generator=torch.Generator().manual_seed(0))
    pre[0, 1, 2] = 0.5
    assert keep_largest_of_batch(pre, 3).count_nonzero() == 1
    assert (keep_largest_of_batch(pre, 8) >= 0).all()


def test_threshold_is_the_running_mean_of_the_smallest_kept():
    parameters, acts = make_problem()
    mean = np.zeros(2)
    for step in range(1, 60):
        batch = torch.stack([acts[step : step + 20], acts[step + 50 : step + 70]])
        codes = keep_largest_of_batch(encode_linear(unit_rows(parameters), batch), 2)
        smallest = np.array([min(x for x in codes[s].flatten().tolist() if x > 0) for s in range(2)])
        mean += max(1 / step, MEMORY) * (smallest - mean)
        batchtopk_loss(parameters, batch, 2)
        np.testing.assert_allclose(parameters["cutoff"][:, 0].numpy(), mean, rtol=1e-4)
    threshold = fold_batchtopk({name: value[1:] for name, value in parameters.items()}, 2)[1].threshold
    np.testing.assert_allclose(threshold, np.full(8, mean[1]), rtol=1e-4)


@pytest.mark.parametrize("variant", ["batchtopk", "matryoshka", "gated", "jumprelu"])
def test_the_threshold_is_in_the_file_and_without_it_the_file_is_refused(variant, train_quickly, world, tmp_path):
    sae = train_quickly(variant).sae
    (tmp_path / "sae.safetensors").write_bytes(serialise_sae(sae))
    stored = load_file(tmp_path / "sae.safetensors")["threshold"]
    assert stored.tobytes() == sae.activation.threshold.tobytes()
    assert (stored[sae.alive] > 0).any()
    acts = world.acts.astype(np.float64)
    pre = acts @ sae.encoder_weight.astype(np.float64).T + sae.encoder_bias
    decided = np.abs(pre - stored) > 1e-4
    by_hand = np.where(pre > stored, pre, 0)
    np.testing.assert_allclose(sae.encode(world.acts)[decided], by_hand[decided], rtol=1e-4, atol=1e-4)
    data = (tmp_path / "sae.safetensors").read_bytes().replace(b'"threshold":{', b'"thresholt":{')
    (tmp_path / "sae.safetensors").write_bytes(data)
    with pytest.raises(ResultError, match="lacks its k or threshold"):
        read_sae(tmp_path / "sae.safetensors")


@pytest.mark.parametrize("variant", ["batchtopk", "matryoshka"])
def test_threshold_is_one_for_all_latents_in_model_units(variant, train_quickly):
    sae = train_quickly(variant).sae
    alive = sae.activation.threshold[sae.alive]
    assert alive.min() == pytest.approx(alive.max(), rel=1e-5)
    assert (sae.activation.threshold[~sae.alive] == 0).all()


def test_prefixes_are_nested_and_end_with_all():
    assert prefix_lengths(64) == [4, 8, 16, 32, 64]
    assert prefix_lengths(10) == [1, 2, 3, 5, 10]
    assert [prefix_lengths(m) for m in (1, 2, 3)] == [[1], [1, 2], [1, 2, 3]]
    parameters, _ = make_problem(matryoshka_parameters, 10)
    assert parameters["group"][1].tolist() == [0, 1, 2, 3, 3, 4, 4, 4, 4, 4]


def test_matryoshka_is_the_plain_mean_over_prefixes():
    """Not divided a second time, neither by the number of prefixes nor by the variance of the activations."""
    for scale in (1.0, 10.0):
        parameters, acts = make_problem(matryoshka_parameters)
        parameters["decoder_bias"] += 0.4
        batch = scale * acts[:20].expand(2, -1, -1)
        unit = unit_rows(parameters)
        codes = keep_largest_of_batch(encode_linear(unit, batch), 2)
        errors = []
        for length in prefix_lengths(8):
            recon = torch.einsum("snm,smd->snd", codes[..., :length], unit["dictionary"][:, :length]) + 0.4
            errors.append((batch - recon).square().mean((1, 2)))
        torch.testing.assert_close(matryoshka_loss(parameters, batch, 2), torch.stack(errors).mean(0))


def test_a_matryoshka_of_one_latent_is_a_batchtopk():
    nested, acts = make_problem(matryoshka_parameters, 1)
    plain, _ = make_problem(m=1)
    batch = acts[:20].expand(2, -1, -1)
    torch.testing.assert_close(matryoshka_loss(nested, batch, 1), batchtopk_loss(plain, batch, 1))


def test_the_first_latents_of_a_matryoshka_reconstruct_best(train_quickly, world):
    """Canonical form keeps the order of the prefixes."""
    sae = train_quickly("matryoshka").sae
    codes = sae.encode(world.acts)
    variance = np.square(world.acts - world.acts.mean(axis=0)).sum()
    left = []
    for start in (0, 8):
        part = np.zeros_like(codes)
        part[:, start : start + 8] = codes[:, start : start + 8]
        left.append(np.square(world.acts - sae.decode(part)).sum() / variance)
    assert left[0] < left[1]
