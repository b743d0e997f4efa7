"""Faithfulness: high of a map on what the score is read from, at chance elsewhere; flat maps and constant scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from salve_audit.saliency.faithfulness import ScoredMap, overlap_hottest, score_maps
from salve_audit.saliency.heat import fade

SIDE = 40
BOX = slice(4, 20)  # 16 of 40 pixels a side: 16 % of the image


def run(images: Tensor) -> Tensor:
    """Two scores: the contrast within a box, and a constant."""
    inside = images[:, :, BOX, BOX]
    return torch.stack([inside.std((1, 2, 3)), torch.ones(len(images))], 1)


def heat_on(top: int, left: int) -> np.ndarray:
    heat = np.zeros((SIDE, SIDE), np.float32)
    heat[top : top + 18, left : left + 18] = 1
    return heat


@pytest.fixture
def images() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, SIDE, SIDE)).astype(np.float32))


def test_a_map_on_the_evidence_is_faithful_and_one_beside_it_is_not(images: Tensor) -> None:
    axis, acts = np.array([1.0, 0.0]), run(images).double().numpy()
    right, wrong = score_maps(
        run, images, acts, [ScoredMap(0, heat_on(3, 3), axis), ScoredMap(1, heat_on(21, 21), axis)], [7, 8]
    )
    assert right is not None
    assert wrong is not None
    assert right.score > 0.9
    assert wrong.score < 0.15
    assert wrong.score < wrong.random < right.score
    again = score_maps(run, images, acts, [ScoredMap(0, heat_on(3, 3), axis)], [7, 8])
    assert again[0] == right  # the same random fifths


def test_nothing_is_said_of_flat_maps_and_of_scores_that_nothing_changes(images: Tensor) -> None:
    flat = ScoredMap(0, np.zeros((SIDE, SIDE), np.float32), np.array([1.0, 0.0]))
    constant = ScoredMap(0, heat_on(3, 3), np.array([0.0, 1.0]))
    assert score_maps(run, images, run(images).double().numpy(), [flat, constant], [7, 8]) == [None, None]


def test_maps_that_point_elsewhere_do_not_overlap() -> None:
    assert overlap_hottest(heat_on(3, 3), heat_on(3, 3)) == 1
    apart = overlap_hottest(heat_on(0, 0), heat_on(22, 22))
    assert apart is not None
    assert apart < 1 / 9
    assert overlap_hottest(heat_on(0, 0), np.zeros((SIDE, SIDE))) is None


def test_an_image_without_evidence_is_grey() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    assert fade(pixels).shape == pixels.shape
    assert (fade(pixels).max(2) == fade(pixels).min(2)).all()
