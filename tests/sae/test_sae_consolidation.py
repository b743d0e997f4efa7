"""Merging duplicates and dropping dead latents must not change what a linear autoencoder computes."""

from __future__ import annotations

import pytest
import torch

from salve_audit.sae.consolidation import consolidate
from salve_audit.sae.parameters import decode, encode_linear, rotation_parameters
from salve_audit.sae.training import Recipe, train, trapezoid
from salve_audit.sae.variants import VARIANTS


@pytest.fixture
def acts() -> torch.Tensor:
    return torch.randn(300, 6, generator=torch.Generator().manual_seed(0))


def start(acts: torch.Tensor, *seeds: int) -> dict[str, torch.Tensor]:
    parameters = rotation_parameters(acts, 6, [torch.Generator().manual_seed(seed) for seed in seeds])
    parameters["encoder_bias"] += torch.linspace(-0.3, 0.3, 6)
    return parameters


def reconstruct(parameters: dict[str, torch.Tensor], acts: torch.Tensor) -> torch.Tensor:
    batch = acts.expand(len(parameters["dictionary"]), -1, -1)
    return decode(parameters, encode_linear(parameters, batch))


def with_duplicate(parameters: dict[str, torch.Tensor], scale: float) -> dict[str, torch.Tensor]:
    """Copy an autoencoder, its first latent's code shared with a new one of row `scale` times the first's."""
    weight, bias, rows = (parameters[name] for name in ("encoder_weight", "encoder_bias", "dictionary"))
    share = torch.full_like(weight[:, :1], 0.3) * torch.randn(6, generator=torch.Generator().manual_seed(1))
    offset = torch.full_like(bias[:, :1], 0.2)
    return {
        "encoder_weight": torch.cat([weight[:, :1] - share, weight[:, 1:], share / scale], dim=1),
        "encoder_bias": torch.cat([bias[:, :1] - offset, bias[:, 1:], offset / scale], dim=1),
        "dictionary": torch.cat([rows, scale * rows[:, :1]], dim=1),
        "decoder_bias": parameters["decoder_bias"],
    }


@pytest.mark.parametrize("scale", [1.0, -1.0, 3.0, -0.2])
def test_a_split_latent_becomes_one_again(acts, scale):
    split = with_duplicate(start(acts, 4), scale)
    merged = consolidate(split, acts)
    assert merged["dictionary"].shape == (1, 6, 6)
    torch.testing.assert_close(reconstruct(merged, acts), reconstruct(split, acts), rtol=1e-4, atol=1e-5)


def test_distinct_latents_are_only_reordered_and_rescaled(acts):
    parameters = start(acts, 4, 5)
    consolidated = consolidate(parameters, acts)
    assert consolidated["dictionary"].shape == (2, 6, 6)
    torch.testing.assert_close(reconstruct(consolidated, acts), reconstruct(parameters, acts), rtol=1e-4, atol=1e-5)
    energy = encode_linear(consolidated, acts.expand(2, -1, -1)).square().mean(1)
    assert (energy.diff(dim=1) <= 1e-6).all()
    torch.testing.assert_close(consolidated["dictionary"].norm(dim=-1), torch.ones(2, 6))


def test_dead_latents_go_and_the_longest_seed_decides(acts):
    parameters = start(acts, 4, 5)
    parameters["dictionary"][0, :2] *= 1e-4  # two latents of the first seed, one of the second
    parameters["dictionary"][1, 3] *= 1e-4
    consolidated = consolidate(parameters, acts)
    assert consolidated["dictionary"].shape == (2, 5, 6)
    assert consolidated["dictionary"][0, 4].eq(0).all()
    assert consolidated["encoder_weight"][0, 4].eq(0).all()
    torch.testing.assert_close(reconstruct(consolidated, acts), reconstruct(parameters, acts), rtol=0, atol=2e-3)


def test_rows_of_zeros_stay_zero_in_training(acts):
    parameters = start(acts, 4, 5)
    parameters["dictionary"][0, :2] *= 1e-4
    consolidated = consolidate(parameters, acts)
    recipe = Recipe(epochs=3, batch_size=32, learning_rate=0.01, betas=(0.9, 0.99), schedule=trapezoid)
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    trained = train(consolidated, acts, VARIANTS["linear-l1"].objective(0.5, 6), recipe, generators)
    assert trained["dictionary"][0, 4:].eq(0).all()
    assert trained["encoder_weight"][0, 4:].eq(0).all()
    assert trained["encoder_bias"][0, 4:].eq(0).all()
    assert not trained["dictionary"][1, 4:].eq(consolidated["dictionary"][1, 4:]).any()


def test_nothing_alive_leaves_one_silent_latent(acts):
    parameters = start(acts, 4)
    parameters["encoder_weight"].zero_()
    parameters["encoder_bias"].zero_()
    consolidated = consolidate(parameters, acts)
    assert consolidated["dictionary"].shape == (1, 1, 6)
    assert reconstruct(consolidated, acts).eq(0).all()


def test_the_parameters_given_are_left_alone(acts):
    split = with_duplicate(start(acts, 4), 2.0)
    before = {name: value.clone() for name, value in split.items()}
    consolidate(split, acts)
    assert all(torch.equal(split[name], before[name]) for name in split)
