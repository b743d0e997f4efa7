"""Grouping and joining of pieces whose kinds are known, and the probe of a real network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from salve_audit.inputs.classifier import Classifier, TransformSpec
from salve_audit.reliance.depth.evidence import Evidence
from salve_audit.reliance.depth.grouping import choose_number, count_pieces, group_pieces
from salve_audit.reliance.depth.merging import merge_alike
from salve_audit.reliance.depth.probing import watch_network
from salve_audit.spatial.layers import find_spatial_layers


def mixed_traits(n: int, n_kinds: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pieces whose kind moves them less than what all pieces of a picture share; order shuffled picture by picture."""
    rng = np.random.default_rng(seed)
    kinds = np.stack([rng.permutation(n_kinds) for _ in range(n)])
    signs = rng.choice([-1.0, 1.0], size=n)
    traits = np.zeros((n, n_kinds, 8))
    traits[:, :, 0] = 3.0 * signs[:, None]  # a hue, say: two clusters that mean nothing
    traits[:, :, 1] = 3.0
    traits += np.eye(8)[2 + kinds] + 0.1 * rng.standard_normal(traits.shape)
    return traits, kinds


@pytest.mark.parametrize("n_kinds", [2, 3])
def test_kinds_are_told_apart_by_pictures_that_have_both(n_kinds: int) -> None:
    traits, kinds = mixed_traits(40, n_kinds, 0)
    grouping = group_pieces(traits, np.ones(kinds.shape, bool), np.random.default_rng(0))
    pairs = set(zip(grouping.concept.ravel().tolist(), kinds.ravel().tolist(), strict=True))
    assert len(pairs) == n_kinds  # a one-to-one relation
    assert grouping.centres.shape == (n_kinds, 8)


def test_pictures_with_one_piece_join_the_kinds_of_the_others() -> None:
    traits, kinds = mixed_traits(60, 2, 1)
    counted = np.ones(kinds.shape, bool)
    traits[20:, 1], counted[20:, 1] = np.nan, False
    grouping = group_pieces(traits, counted, np.random.default_rng(0))
    assert (grouping.concept[20:, 1] == -1).all()
    firsts = set(zip(grouping.concept[:, 0].tolist(), kinds[:, 0].tolist(), strict=True))
    assert len(firsts) == 2


def test_without_survivors_there_is_one_concept_however_much_it_varies() -> None:
    traits, _ = mixed_traits(40, 2, 2)
    traits[:, 1] = np.nan
    counted = np.array([[True, False]] * 40)
    grouping = group_pieces(traits, counted, np.random.default_rng(0))
    assert set(grouping.concept[:, 0].tolist()) == {0}
    assert len(grouping.centres) == 1


def test_a_class_without_pieces_has_no_concept() -> None:
    grouping = group_pieces(np.full((5, 3, 4), np.nan), np.zeros((5, 3), bool), np.random.default_rng(0))
    assert len(grouping.centres) == 0
    assert (grouping.concept == -1).all()


def test_pieces_count_by_the_share_of_the_margin_they_take() -> None:
    clean = np.array([10.0, 10.0, 4.0])
    together = np.array([[8.0, 7.9, -1.0], [-3.0, np.nan, np.nan], [1.0, -2.0, np.nan]])
    counted = count_pieces(clean, together)
    assert counted.tolist() == [[True, False, True], [True, False, False], [True, True, False]]
    assert choose_number(counted) == 1  # two pictures are too few
    assert choose_number(np.repeat(counted, 4, axis=0)) == 2


def hand_made() -> Evidence:
    """Twenty pictures that vary; the first rests on two halves of one thing, the second on two things."""
    rng = np.random.default_rng(0)
    n = 20
    regions = torch.zeros(n, 3, 4, 4, dtype=torch.bool)
    for piece in range(3):
        regions[:, piece, piece] = True
    alone, together = torch.full((n, 3), torch.nan), torch.full((n, 3), torch.nan)
    traits = torch.full((n, 3, 6), torch.nan)
    alone[:, 0] = together[:, 0] = -1.0
    traits[:, 0] = torch.from_numpy(rng.standard_normal((n, 6))).float()
    alone[:2, :2], together[:2, :2] = torch.tensor([3.0, 4.0]), torch.tensor([3.0, -2.0])
    traits[0, 1] = traits[0, 0] + 0.01
    traits[1, 1] = -traits[1, 0]
    return Evidence(torch.zeros(n, dtype=torch.long), torch.full((n,), 5.0), regions, alone, together, traits, 1)


def test_halves_of_one_thing_become_one_piece() -> None:
    evidence = hand_made()
    kept = {name: value.clone() for name, value in vars(evidence).items() if isinstance(value, torch.Tensor)}
    merged = merge_alike(evidence)
    assert merged.alone[0].nan_to_num(99).tolist() == [-2.0, 99, 99]
    assert merged.together[0].nan_to_num(99).tolist() == [-2.0, 99, 99]
    assert torch.equal(merged.regions[0, 0], evidence.regions[0, 0] | evidence.regions[0, 1])
    assert not merged.regions[0, 1].any()
    assert merged.flips[0].tolist() == [True, False, False]
    for name in kept:  # every other picture, and what was given, stays
        torch.testing.assert_close(getattr(merged, name)[1:], kept[name][1:], equal_nan=True)
        torch.testing.assert_close(getattr(evidence, name), kept[name], equal_nan=True)


def test_few_pictures_are_not_joined() -> None:
    evidence = hand_made()
    few = dataclasses.replace(
        evidence, **{name: value[:2] for name, value in vars(evidence).items() if isinstance(value, torch.Tensor)}
    )
    torch.testing.assert_close(merge_alike(few).alone, few.alone, equal_nan=True)


@pytest.mark.parametrize("architecture", ["resnet10t", "test_vit"])
def test_probe_is_the_network_and_leaves_it_alone(architecture: str) -> None:
    torch.manual_seed(0)
    size = 160 if architecture == "test_vit" else 64
    model = timm.create_model(architecture, num_classes=5).eval().requires_grad_(False)
    transform = TransformSpec((3, size, size), (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0, "test")
    head = "fc" if architecture == "resnet10t" else "head"
    classifier = Classifier(model, architecture, "test", Path("model.pt"), "0", head, transform, None, False, ())
    images = torch.randn(3, 3, size, size)
    layer = find_spatial_layers(classifier, images)[1]
    with watch_network(classifier, layer) as probe:
        asked = images.clone().requires_grad_(True)
        seen = probe(asked)
        torch.testing.assert_close(seen.logits, model(images), atol=1e-4, rtol=1e-4)
        assert seen.maps.shape == (3, layer.layout.channels, layer.layout.height, layer.layout.width)
        assert not seen.maps.requires_grad
        (gradient,) = torch.autograd.grad(seen.logits[:, 0].sum(), asked)
        assert gradient.abs().sum() > 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
