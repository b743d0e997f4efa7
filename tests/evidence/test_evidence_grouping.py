"""Grouping and joining of evidence regions whose kinds are known, and the probe of a real network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from salve_audit.evidence.findings import choose_n_concepts, group_regions, mark_counted_regions
from salve_audit.evidence.probe import watch_network
from salve_audit.evidence.search import Evidence, merge_alike
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.results.transform import TransformSpec
from salve_audit.spatial.layers import find_spatial_layers


def mixed_signatures(n: int, n_kinds: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Signatures whose kind moves them less than what regions of an image share; order shuffled image by image."""
    rng = np.random.default_rng(seed)
    kinds = np.stack([rng.permutation(n_kinds) for _ in range(n)])
    signs = rng.choice([-1.0, 1.0], size=n)
    signatures = np.zeros((n, n_kinds, 8))
    signatures[:, :, 0] = 3.0 * signs[:, None]  # a hue, say: two clusters that mean nothing
    signatures[:, :, 1] = 3.0
    signatures += np.eye(8)[2 + kinds] + 0.1 * rng.standard_normal(signatures.shape)
    return signatures, kinds


@pytest.mark.parametrize("n_kinds", [2, 3])
def test_kinds_are_distinguished_by_images_that_have_both(n_kinds: int) -> None:
    signatures, kinds = mixed_signatures(40, n_kinds, 0)
    grouping = group_regions(signatures, np.ones(kinds.shape, bool), np.random.default_rng(0))
    pairs = set(zip(grouping.concept.ravel().tolist(), kinds.ravel().tolist(), strict=True))
    assert len(pairs) == n_kinds  # a one-to-one relation
    assert grouping.centres.shape == (n_kinds, 8)


def test_images_with_one_region_join_the_kinds_of_the_others() -> None:
    signatures, kinds = mixed_signatures(60, 2, 1)
    counted = np.ones(kinds.shape, bool)
    signatures[20:, 1], counted[20:, 1] = np.nan, False
    grouping = group_regions(signatures, counted, np.random.default_rng(0))
    assert (grouping.concept[20:, 1] == -1).all()
    firsts = set(zip(grouping.concept[:, 0].tolist(), kinds[:, 0].tolist(), strict=True))
    assert len(firsts) == 2


def test_without_survivors_there_is_one_concept_however_much_it_varies() -> None:
    signatures, _ = mixed_signatures(40, 2, 2)
    signatures[:, 1] = np.nan
    counted = np.array([[True, False]] * 40)
    grouping = group_regions(signatures, counted, np.random.default_rng(0))
    assert set(grouping.concept[:, 0].tolist()) == {0}
    assert len(grouping.centres) == 1


def test_a_class_without_regions_has_no_concept() -> None:
    grouping = group_regions(np.full((5, 3, 4), np.nan), np.zeros((5, 3), bool), np.random.default_rng(0))
    assert len(grouping.centres) == 0
    assert (grouping.concept == -1).all()


def test_regions_count_by_the_share_of_the_margin_that_they_remove() -> None:
    clean = np.array([10.0, 10.0, 4.0])
    together = np.array([[8.0, 7.9, -1.0], [-3.0, np.nan, np.nan], [1.0, -2.0, np.nan]])
    counted = mark_counted_regions(clean, together)
    assert counted.tolist() == [[True, False, True], [True, False, False], [True, True, False]]
    assert choose_n_concepts(counted) == 1  # two images are too few
    assert choose_n_concepts(np.repeat(counted, 4, axis=0)) == 2


def hand_made() -> Evidence:
    """Twenty images that vary; the first depends on two halves of one thing, the second on two things."""
    rng = np.random.default_rng(0)
    n = 20
    regions = torch.zeros(n, 3, 4, 4, dtype=torch.bool)
    for slot in range(3):
        regions[:, slot, slot] = True
    alone, together = torch.full((n, 3), torch.nan), torch.full((n, 3), torch.nan)
    signatures = torch.full((n, 3, 6), torch.nan)
    alone[:, 0] = together[:, 0] = -1.0
    signatures[:, 0] = torch.from_numpy(rng.standard_normal((n, 6))).float()
    alone[:2, :2], together[:2, :2] = torch.tensor([3.0, 4.0]), torch.tensor([3.0, -2.0])
    signatures[0, 1] = signatures[0, 0] + 0.01
    signatures[1, 1] = -signatures[1, 0]
    labels, heat = torch.zeros(n, dtype=torch.long), regions[:, 0].float()
    return Evidence(labels, torch.full((n,), 5.0), regions, alone, together, signatures, heat, 1)


def test_halves_of_one_thing_become_one_region() -> None:
    evidence = hand_made()
    given = {name: value.clone() for name, value in vars(evidence).items() if isinstance(value, torch.Tensor)}
    merged = merge_alike(evidence)
    assert merged.alone[0].nan_to_num(99).tolist() == [-2.0, 99, 99]
    assert merged.together[0].nan_to_num(99).tolist() == [-2.0, 99, 99]
    assert torch.equal(merged.regions[0, 0], evidence.regions[0, 0] | evidence.regions[0, 1])
    assert not merged.regions[0, 1].any()
    assert merged.flips[0].tolist() == [True, False, False]
    for name in given:  # every other image, and what was given, stays
        torch.testing.assert_close(getattr(merged, name)[1:], given[name][1:], equal_nan=True)
        torch.testing.assert_close(getattr(evidence, name), given[name], equal_nan=True)


def test_few_images_are_not_joined() -> None:
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
        prepared = images.clone().requires_grad_(True)
        output = probe(prepared)
        torch.testing.assert_close(output.logits, model(images), atol=1e-4, rtol=1e-4)
        assert output.maps.shape == (3, layer.layout.channels, layer.layout.height, layer.layout.width)
        assert not output.maps.requires_grad
        (gradient,) = torch.autograd.grad(output.logits[:, 0].sum(), prepared)
        assert gradient.abs().sum() > 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
