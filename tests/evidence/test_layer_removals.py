"""Removals at a layer with the rest of the network: against hooking the real network, dense grids and known cues."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from salve_audit.evidence.probe import hard_margin
from salve_audit.evidence.projection import ConceptProjection, Removal
from salve_audit.evidence.suppression import (
    StrengthSearch,
    bisect,
    median_strength,
    remove_each,
    strengths_in,
    summarise_effect,
)
from salve_audit.evidence.tail import ImageLoader, LayerTail
from salve_audit.spatial.cut import CutNetwork
from salve_audit.spatial.layers import SpatialLayer, find_spatial_layers
from salve_audit.spatial.layout import GridLayout

LAYER = SpatialLayer("layer", GridLayout("channels-first", 8, 8, 3), 1)


def random_images(n: int = 6) -> Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def source_of(images: Tensor, labels: Tensor) -> ImageLoader:
    return ImageLoader(labels.numpy(), lambda rows: images[torch.from_numpy(rows)])


def random_projection(d: int, rank: int, seed: int) -> ConceptProjection:
    """An oblique projection: the readout is another one than the directions."""
    rng = np.random.default_rng(seed)
    directions, readout = rng.standard_normal((rank, d)), rng.standard_normal((rank, d))
    return ConceptProjection(directions, np.linalg.solve(readout @ directions.T, readout))


@pytest.mark.parametrize(("name", "module"), [("resnet10t", "layer1"), ("vit_tiny_patch16_224", "blocks.0")])
def test_margins_are_those_of_the_network_with_its_layer_hooked(family: Any, name: str, module: str) -> None:
    classifier, images = family(name), random_images()
    layer = next(layer for layer in find_spatial_layers(classifier, images) if layer.name == module)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    source, d = source_of(images, labels), layer.layout.channels
    removals: list[Removal] = [random_projection(d, 2, 0), random_projection(d, 1, 1)]
    with CutNetwork(classifier.model, layer, classifier.reader) as cut:
        tail = LayerTail(cut, source, batch_size=4)
        clean, changed = remove_each(tail, removals, np.arange(6), strength=0.7)
        assert tail.n_passes == 6 + 2 * 6
        folded = LayerTail(cut, source, classifier.reader.fold(classifier.model), batch_size=4)
        np.testing.assert_allclose(remove_each(folded, removals, np.arange(6), 0.7)[1], changed, atol=1e-4)
    with torch.no_grad():
        np.testing.assert_allclose(clean, hard_margin(classifier.model(images), labels), atol=1e-4)
    for removal, margins in zip(removals, changed, strict=True):

        def hook(_: Any, __: Any, output: Tensor, removal: Removal = removal) -> Tensor:
            positions = layer.layout.to_positions(output)
            return layer.layout.with_positions(output, positions - 0.7 * removal.part(positions))

        handle = classifier.model.get_submodule(module).register_forward_hook(hook)
        with torch.no_grad():
            expected = hard_margin(classifier.model(images), labels)
        handle.remove()
        np.testing.assert_allclose(margins, expected, atol=1e-4)
        assert np.abs(margins - clean).max() > 1e-3, "a removal that does nothing verifies nothing"


def test_smallest_strengths_agree_with_a_dense_grid() -> None:
    """Images whose margin goes up and down on the way, at most once within a step of the scan."""
    rng = np.random.default_rng(0)
    n, knots = 300, 8
    margins = torch.from_numpy(rng.normal(0.8, 1.0, (n, knots + 1)))
    margins[:20] = margins[:20].abs()  # never wrong

    def margin(which: Tensor, at: Tensor) -> Tensor:
        position = (at.double() * knots).clamp(0, knots - 1e-9)
        left = position.floor().long()
        own = margins[which]
        low, high = own.gather(1, left[:, None])[:, 0], own.gather(1, left[:, None] + 1)[:, 0]
        return low + (position - left) * (high - low)

    right = margins[:, 0] > 0
    strengths = bisect(lambda which, at: margin(which, at) <= 0, right, StrengthSearch(knots, 1e-3))
    every = torch.arange(n)
    dense = torch.full((n,), torch.inf, dtype=torch.float64)
    for at in torch.linspace(0, 1, 4001).flip(0):
        dense = torch.where(margin(every, at.expand(n)) <= 0, at.double(), dense)
    assert strengths[~right].isnan().all()
    assert torch.equal(strengths[right].isinf(), dense[right].isinf())
    known = right & dense.isfinite()
    assert known.sum() > 50
    assert (strengths[known] - dense[known]).abs().max() <= 1e-3 + 1 / 4000
    assert (strengths[known] >= dense[known] - 1 / 4000).all(), "never before the prediction changes"


@pytest.mark.parametrize(
    ("strengths", "expected"),
    [([0.1, 0.2, np.inf], 0.2), ([0.5, np.inf], 0.5), ([0.5, np.inf, np.inf], None), ([np.nan, 0.3], 0.3), ([], None)],
)
def test_median_strength_is_censored_where_most_stay_right(strengths: list[float], expected: float | None) -> None:
    assert median_strength(np.array(strengths)) == expected


@pytest.fixture
def toy(cues: Any, cue_images: Any) -> LayerTail:
    images, labels = cue_images(40, np.random.default_rng(0))
    return LayerTail(CutNetwork(cues.model, LAYER, cues.reader), source_of(images, labels))


def along(direction: np.ndarray) -> ConceptProjection:
    """The orthogonal projection of a unit direction."""
    return ConceptProjection(direction[None], direction[None])


def test_known_cues_are_lost_as_known(toy: LayerTail) -> None:
    """Class 0 has two cues of which either will do, class 1 has one, class 2 none."""
    removals, labels, every = [along(axis) for axis in np.eye(3)], toy.source.labels, np.arange(120)
    clean, changed = remove_each(toy, removals, every)
    assert (clean > 0).all()
    drops = np.array([[(margins[labels == k] <= 0).mean() for k in range(3)] for margins in changed])
    np.testing.assert_array_equal(drops, [[0, 0, 0], [0, 0, 0], [0, 1, 0]])
    effect = summarise_effect(clean, changed[2], labels, 1, np.random.default_rng(0))
    assert (effect.own.drop.value, effect.own.n, effect.own.thin) == (1.0, 40, False)
    assert effect.own.drop.low > 0.9
    assert [drop.label for drop in effect.others] == [0, 2]
    assert effect.mean_others.value == 0.0
    assert 0 < effect.mean_others.high < 0.06, "none of 80 is not verification of none"


def test_known_cues_flip_where_the_other_class_takes_over(toy: LayerTail) -> None:
    """Class 1 is lost where its 4 (1 - t) falls to the 1 of class 2."""
    for index, axis in enumerate(np.eye(3)):
        for batch in toy.reach(np.arange(120)):
            strengths = strengths_in(toy, batch, along(axis).part(batch.positions), StrengthSearch())
            lost = (batch.labels == 1) & (index == 2)
            torch.testing.assert_close(strengths[lost], torch.full((int(lost.sum()),), 0.75), atol=0.02, rtol=0)
            assert strengths[~lost].isinf().all()


def test_bisection_at_the_ends() -> None:
    """Changes at exactly 1 and just above 0, none at all, wrong from the start, and no images."""
    edges = torch.tensor([1.0, 1e-4, 2.0, 0.0])
    right = torch.tensor([True, True, True, False])
    strengths = bisect(lambda which, at: at >= edges[which], right, StrengthSearch(4, 1 / 32))
    assert strengths[0] == 1.0
    assert 1e-4 <= strengths[1] <= 1 / 32
    assert strengths[2].isinf()
    assert strengths[3].isnan()
    nobody = bisect(lambda which, at: at >= 0, torch.zeros(0, dtype=torch.bool), StrengthSearch())
    assert nobody.shape == (0,)


def test_an_image_is_lost_at_its_strength_and_not_before(toy: LayerTail) -> None:
    """Random directions: the prediction holds one tolerance below, and images that were wrong have no strength."""
    rng, search = np.random.default_rng(1), StrengthSearch(16, 1e-3)
    toy.source.labels[:5] = 2  # of another class than their cues say: wrong from the start
    n_lost = 0
    for direction in rng.standard_normal((30, 3)):
        removal = along(direction / np.linalg.norm(direction))
        for batch in toy.reach(np.arange(120)):
            part, wrong = removal.part(batch.positions), toy.clean(batch) <= 0
            strengths = strengths_in(toy, batch, part, search)
            assert torch.equal(strengths.isnan(), wrong)
            lost = torch.nonzero(strengths.isfinite())[:, 0]
            for shift, sign in ((0.0, -1), (-search.tolerance, 1)):
                at = (strengths[lost] + shift).clamp(min=0).view(-1, 1, 1)
                margins = toy.margins(batch, batch.positions[lost] - at * part[lost], lost)
                assert (sign * margins >= 0).all()
            n_lost += len(lost)
    assert n_lost > 100, "a search that finds nothing verifies nothing"


def test_random_directions_do_less(toy: LayerTail) -> None:
    """A direction u leaves 1 - u2^2 of the cue of class 1, and makes -u2 u0 and -u2 u1 of the cues of class 0."""
    rng = np.random.default_rng(0)
    drawn = [direction / np.linalg.norm(direction) for direction in rng.standard_normal((60, 3))]
    rows = np.flatnonzero(toy.source.labels == 1)
    _, changed = remove_each(toy, [along(direction) for direction in drawn], rows)
    expected = [4 * (1 - u[2] ** 2) - max(1, -4 * u[2] * u[0], -4 * u[2] * u[1]) for u in drawn]
    np.testing.assert_allclose(changed, np.broadcast_to(np.array(expected)[:, None], changed.shape), atol=0.15)
    assert 0 < (changed <= 0).mean() < 0.7, "the cue's own direction flips every image"
