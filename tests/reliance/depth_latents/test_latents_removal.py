"""Removing latents with the network's own rest: against hooking the real network, dense grids and known cues."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from salve_audit.reliance.depth.latents import (
    DictionarySettings,
    LatentGroup,
    LayerTail,
    PictureSource,
    StrengthSearch,
    Together,
    as_removals,
    attribute_removals,
    count_concepts,
    find_strengths,
    fit_dictionaries,
    median_strength,
    random_groups,
    remove_each,
    sample_positions,
    summarise_effect,
)
from salve_audit.reliance.depth.latents.suppression import bisect
from salve_audit.reliance.depth.latents.tail import parts_of
from salve_audit.reliance.depth.network import hard_margin, soft_margin
from salve_audit.reliance.depth.removal import Removal
from salve_audit.spatial import CutNetwork, GridLayout, SpatialLayer, find_spatial_layers

LAYER = SpatialLayer("layer", GridLayout("channels-first", 8, 8, 3), 1)


def random_pictures(n: int = 6) -> Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def source_of(images: Tensor, labels: Tensor) -> PictureSource:
    return PictureSource(labels.numpy(), lambda rows: images[torch.from_numpy(rows)])


def test_parts_are_sums_of_latents_and_the_error_term_stays(dictionary_of: Any) -> None:
    rng = np.random.default_rng(0)
    rows = np.linalg.qr(rng.standard_normal((5, 5)))[0][:4]
    dictionary = dictionary_of(rows)
    positions = torch.from_numpy(rng.standard_normal((2, 6, 5))).float()
    codes = dictionary.encode(positions)
    group = LatentGroup(dictionary, (1, 3))
    brute = sum(codes[..., one, None] * torch.from_numpy(rows[one]).float() for one in (1, 3))
    torch.testing.assert_close(group.part(positions), brute)
    left = codes.clone()
    left[..., [1, 3]] = 0
    error = positions - dictionary.decode(codes)
    torch.testing.assert_close(positions - group.part(positions), dictionary.decode(left) + error)
    level = codes.mean((0, 1))
    towards = LatentGroup(dictionary, (1, 3), level)
    left[..., [1, 3]] = level[[1, 3]]
    torch.testing.assert_close(positions - towards.part(positions), dictionary.decode(left) + error)
    assert isinstance(group, Removal)
    both = [group, towards, LatentGroup(dictionary_of(rows[:2]), (0,))]
    for one, part in zip(both, parts_of(both, positions), strict=True):
        torch.testing.assert_close(part, one.part(positions))
    assert not LatentGroup(dictionary, ()).part(positions).any()


@pytest.mark.parametrize(("name", "module"), [("resnet10t", "layer1"), ("vit_tiny_patch16_224", "blocks.0")])
def test_margins_are_those_of_the_network_with_its_layer_hooked(family: Any, name: str, module: str) -> None:
    classifier, images = family(name), random_pictures()
    layer = next(one for one in find_spatial_layers(classifier, images) if one.name == module)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    source = source_of(images, labels)
    with CutNetwork(classifier.model, layer, classifier.reader) as cut:
        sample = sample_positions(cut, source, np.random.default_rng(0), limit=400)
        (dictionary,) = fit_dictionaries(sample, DictionarySettings(n_latents=16, n_active=3, n_steps=100))
        removals = [LatentGroup(dictionary, (2, 5)), LatentGroup(dictionary, (0,))]
        tail = LayerTail(cut, source, batch_size=4)
        clean, changed = remove_each(tail, removals, np.arange(6), strength=0.7)
        assert tail.n_passes == 6 + 2 * 6
        folded = LayerTail(cut, source, classifier.reader.fold(classifier.model), batch_size=4)
        np.testing.assert_allclose(remove_each(folded, removals, np.arange(6), 0.7)[1], changed, atol=1e-4)
    with torch.no_grad():
        np.testing.assert_allclose(clean, hard_margin(classifier.model(images), labels), atol=1e-4)
    for removal, margins in zip(removals, changed, strict=True):

        def hook(_: Any, __: Any, output: Tensor, removal: LatentGroup = removal) -> Tensor:
            positions = layer.layout.to_positions(output)
            return layer.layout.with_positions(output, positions - 0.7 * removal.part(positions))

        handle = classifier.model.get_submodule(module).register_forward_hook(hook)
        with torch.no_grad():
            expected = hard_margin(classifier.model(images), labels)
        handle.remove()
        np.testing.assert_allclose(margins, expected, atol=1e-4)
        assert np.abs(margins - clean).max() > 1e-3, "a removal that does nothing proves nothing"


def test_smallest_strengths_agree_with_a_dense_grid() -> None:
    """Pictures whose margin goes up and down on the way, at most once within a step of the scan."""
    rng = np.random.default_rng(0)
    n, knots = 300, 8
    margins = torch.from_numpy(rng.normal(0.8, 1.0, (n, knots + 1)))
    margins[:20] = margins[:20].abs()  # never wrong

    def margin(which: Tensor, at: Tensor) -> Tensor:
        place = (at.double() * knots).clamp(0, knots - 1e-9)
        left = place.floor().long()
        own = margins[which]
        low, high = own.gather(1, left[:, None])[:, 0], own.gather(1, left[:, None] + 1)[:, 0]
        return low + (place - left) * (high - low)

    right = margins[:, 0] > 0
    found = bisect(lambda which, at: margin(which, at) <= 0, right, StrengthSearch(knots, 1e-3))
    every = torch.arange(n)
    dense = torch.full((n,), torch.inf, dtype=torch.float64)
    for at in torch.linspace(0, 1, 4001).flip(0):
        dense = torch.where(margin(every, at.expand(n)) <= 0, at.double(), dense)
    assert found[~right].isnan().all()
    assert torch.equal(found[right].isinf(), dense[right].isinf())
    known = right & dense.isfinite()
    assert known.sum() > 50
    assert (found[known] - dense[known]).abs().max() <= 1e-3 + 1 / 4000
    assert (found[known] >= dense[known] - 1 / 4000).all(), "never before the prediction changes"


@pytest.mark.parametrize(
    ("strengths", "expected"),
    [([0.1, 0.2, np.inf], 0.2), ([0.5, np.inf], 0.5), ([0.5, np.inf, np.inf], None), ([np.nan, 0.3], 0.3), ([], None)],
)
def test_median_strength_is_censored_where_most_stay_right(strengths: list[float], expected: float | None) -> None:
    assert median_strength(np.array(strengths)) == expected


@pytest.fixture
def toy(cues: Any, cue_pictures: Any, dictionary_of: Any) -> tuple[LayerTail, list[LatentGroup]]:
    images, labels = cue_pictures(40, np.random.default_rng(0))
    cut = CutNetwork(cues.model, LAYER, cues.reader)
    removals = as_removals(dictionary_of(np.eye(3)), [(0,), (1,), (2,)])
    return LayerTail(cut, source_of(images, labels)), list(removals)


def test_known_cues_are_lost_as_known(toy: Any) -> None:
    """Class 0 has two cues of which either will do, class 1 has one, class 2 none."""
    tail, removals = toy
    labels, every = tail.source.labels, np.arange(120)
    clean, changed = remove_each(tail, removals, every)
    assert (clean > 0).all()
    drops = np.array([[(one[labels == k] <= 0).mean() for k in range(3)] for one in changed])
    np.testing.assert_array_equal(drops, [[0, 0, 0], [0, 0, 0], [0, 1, 0]])
    effect = summarise_effect(clean, changed[2], labels, 1, np.random.default_rng(0))
    assert (effect.own.drop.value, effect.own.n, effect.own.thin) == (1.0, 40, False)
    assert effect.own.drop.low > 0.9
    assert [one.label for one in effect.others] == [0, 2]
    assert effect.mean_others.value == 0.0
    assert 0 < effect.mean_others.high < 0.06, "none of 80 is not proof of none"
    # class 1 is lost where 4 (1 - t) falls to the 1 of class 2
    strengths = find_strengths(tail, removals, every)
    np.testing.assert_allclose(strengths[2, labels == 1], 0.75, atol=0.02)
    assert np.isinf(strengths[:, labels != 1]).all()


def test_redundancy_counts_the_cues(toy: Any) -> None:
    tail, removals = toy
    every, rng = np.arange(120), np.random.default_rng(0)
    two = count_concepts(tail, removals, 0, every, rng)
    one = count_concepts(tail, removals, 1, every, rng)
    none = count_concepts(tail, removals, 2, every, rng)
    assert (two.count, two.low, two.high) == (2, 2, 2)
    assert set(two.order[:2]) == {0, 1}
    assert two.right[:3] == (1.0, 1.0, 0.0)
    assert two.others == (1.0, 1.0, 1.0, 0.5), "only the third cue is another class's"
    assert (one.count, one.order[0]) == (1, 2)
    assert none.count is None


def test_random_latents_are_alive_and_do_less(toy: Any, dictionary_of: Any) -> None:
    tail, _ = toy
    dictionary = dictionary_of(np.eye(3))
    dictionary.sae.encoder_weight[0] = 0.0  # died
    drawn = random_groups(dictionary, 1, 60, np.random.default_rng(0))
    assert set(drawn) == {(1,), (2,)}
    assert random_groups(dictionary, 5, 2, np.random.default_rng(0)) == ((1, 2), (1, 2))
    rows = np.flatnonzero(tail.source.labels == 1)
    _, changed = remove_each(tail, as_removals(dictionary, drawn), rows)
    assert (changed <= 0).mean() == pytest.approx(np.mean([one == (2,) for one in drawn]))


def test_attributions_add_up_to_what_all_removals_take(family: Any) -> None:
    """Completeness of integrated gradients, with enough steps."""
    classifier, images = family("vit_tiny_patch16_224"), random_pictures()
    layer = next(one for one in find_spatial_layers(classifier, images) if one.name == "blocks.0")
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    source = source_of(images, labels)
    with CutNetwork(classifier.model, layer, classifier.reader) as cut:
        sample = sample_positions(cut, source, np.random.default_rng(0), limit=400)
        (dictionary,) = fit_dictionaries(sample, DictionarySettings(n_latents=8, n_active=2, n_steps=100))
        removals = as_removals(dictionary, [(one,) for one in range(8)])
        tail = LayerTail(cut, source)
        given = attribute_removals(tail, removals, np.arange(6), n_steps=60).sum(0)
        assert tail.n_passes == 6 + 60 * 3 * 6
        (batch,) = tail.reach(np.arange(6))
        with torch.no_grad():
            outputs = layer.layout.with_positions(
                batch.passed.output, batch.positions - Together(tuple(removals)).part(batch.positions)
            )
            without = soft_margin(cut.tail(batch.passed, outputs, torch.arange(6)), labels)
    expected = (soft_margin(batch.passed.logits, labels) - without).numpy()
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(given, expected, atol=0.02 * np.abs(expected).max())
