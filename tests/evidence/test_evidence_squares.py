"""Squares around evidence regions, against margins worked out square by square and images with known evidence."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from salve_audit.evidence.probe import ProbeOutput, hard_margin
from salve_audit.evidence.regions import fill_regions
from salve_audit.evidence.search import (
    DOUBTFUL,
    SQUARE,
    WEIGHT,
    Evidence,
    SearchSettings,
    find_evidence,
    judge_with_squares,
    square_around,
)

SIDE = 32


def bright(images: Tensor) -> Tensor:
    """(b, 2): how bright the upper and the lower half's brightest 5 x 5 places are."""
    places = torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 5, 1)
    half = places.shape[2] // 2
    return torch.stack([places[:, :, :half].amax((1, 2, 3)), places[:, :, half:].amax((1, 2, 3))], 1)


def either(images: Tensor) -> ProbeOutput:
    """The class is there where either half has a bright place."""
    score = bright(images).amax(1)
    return ProbeOutput(torch.stack([10 * score, torch.full_like(score, 5.0)], 1), images.detach())


def patches(boxes: list[list[tuple[int, int, int, int]]]) -> Tensor:
    """Grey noise with bright boxes (top, left, height, width) in each image."""
    images = 0.02 * torch.randn(len(boxes), 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    for row, mine in enumerate(boxes):
        for top, left, height, width in mine:
            images[row, :, top : top + height, left : left + width] = 1.0
    return images


def evidence_at(images: Tensor, regions: Tensor) -> Evidence:
    """One region per image, judged as the search does; an empty one has no margin."""
    labels = torch.zeros(len(images), dtype=torch.long)
    there = regions.any(2).any(1)
    margin = hard_margin(either(fill_regions(images, regions[:, None].float())).logits, labels)
    alone = torch.where(there, margin, torch.nan)[:, None]
    signatures = torch.zeros(len(images), 1, 3)
    clean = hard_margin(either(images).logits, labels)
    return Evidence(labels, clean, regions[:, None], alone, alone.clone(), signatures, regions.float(), 7)


def test_alone_is_the_mean_over_the_region_and_its_square() -> None:
    rng = np.random.default_rng(0)
    bright_places = rng.integers(0, 20, (9, 2))
    images = patches([[(top, left, 7, 7)] for top, left in bright_places.tolist()])
    regions = torch.zeros(9, SIDE, SIDE, dtype=torch.bool)
    corners = rng.integers(0, 20, (9, 2))
    corners[::2] = bright_places[::2]  # the others are beside them, or have part of them
    for row, (top, left) in enumerate(corners[:8]):  # the last image has no region
        regions[row, top : top + 6, left : left + 9] = True
    evidence = evidence_at(images, regions)
    judged, asked = judge_with_squares(either, images, evidence, 4), list[int]()
    for row, (top, left) in enumerate(corners[:8]):
        margins, weights = [float(evidence.alone[row, 0])], [1]
        sides = (14,) if margins[0] <= DOUBTFUL * float(evidence.clean[row]) else ()
        asked.append(len(sides))
        for side in sides:
            weights.append(WEIGHT)
            mask = torch.zeros(1, 1, SIDE, SIDE)
            y = min(max(round(top + 2.5 - (side - 1) / 2), 0), SIDE - side)
            x = min(max(round(left + 4 - (side - 1) / 2), 0), SIDE - side)
            mask[:, :, y : y + side, x : x + side] = 1
            margins.append(
                float(hard_margin(either(fill_regions(images[row : row + 1], mask)).logits, torch.tensor([0])))
            )
        assert float(judged.alone[row, 0]) == pytest.approx(np.average(margins, weights=weights), abs=1e-5)
    assert judged.alone[8].isnan().all()
    assert set(asked) == {0, 1}  # squares are asked about regions that take part of the margin, and only about these


def test_only_margins_without_a_region_alone_change_and_passes_are_counted() -> None:
    images = patches([[(4, 4, 7, 7)], [(20, 12, 7, 7)], []])
    regions = torch.zeros(3, SIDE, SIDE, dtype=torch.bool)
    regions[:2, 2:12, 2:12] = True
    evidence, batches = evidence_at(images, regions), []
    before = dataclasses.replace(evidence, alone=evidence.alone.clone())

    def counted(given: Tensor) -> ProbeOutput:
        batches.append(len(given))
        return either(given)

    judged = judge_with_squares(counted, images, evidence, 2)
    assert judged.n_passes == 7 + sum(batches) == 8  # one region takes part of its image's margin
    for name in ("labels", "clean", "regions", "together", "signatures"):
        assert getattr(judged, name) is getattr(evidence, name)
    assert torch.equal(evidence.alone.nan_to_num(), before.alone.nan_to_num())  # the given evidence is left alone


def test_one_thing_stays_decisive_and_two_in_one_region_do_not() -> None:
    """Two bright places far apart, either of which is enough, in one region; and a single place."""
    images = patches([[(3, 12, 6, 6), (23, 12, 6, 6)], [(12, 12, 6, 6)]])
    regions = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    regions[0, 3:29, 10:20] = True
    regions[1, 10:20, 10:20] = True
    evidence = evidence_at(images, regions)
    assert evidence.flips[:, 0].tolist() == [True, True]
    judged = judge_with_squares(either, images, evidence, 10)
    assert judged.flips[:, 0].tolist() == [False, True]


def test_what_sticks_out_of_its_region_counts() -> None:
    """The region has most of a bright bar: without the square around it less is left."""
    images = patches([[(12, 10, 6, 12)]])
    regions = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    regions[0, 10:20, 8:20] = True
    evidence = evidence_at(images, regions)
    judged = judge_with_squares(either, images, evidence, 10)
    assert float(judged.alone[0, 0]) < float(evidence.alone[0, 0])


@pytest.mark.parametrize("shape", [(32, 32), (32, 20), (6, 32), (1, 1), (7, 5)])
def test_squares_lie_inside_around_the_middle(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    regions = torch.rand(40, *shape, generator=generator) > torch.rand(40, 1, 1, generator=generator)
    regions[:, 0, 0] |= ~regions.flatten(1).any(1)
    for share in (0.3, SQUARE, 0.6):
        side = max(1, round(share * max(shape)))
        square = square_around(regions, share)
        assert (square.any(2).sum(1) == min(side, shape[0])).all()
        assert (square.any(1).sum(1) == min(side, shape[1])).all()
        assert (square.sum((1, 2)) == min(side, shape[0]) * min(side, shape[1])).all()
        for region, own in zip(regions, square, strict=True):
            for axis, size in enumerate(shape):
                middle, places = region.nonzero()[:, axis].double().mean(), own.nonzero()[:, axis].double()
                # as near to the middle as the sides of the grid allow
                nearest = middle.clamp((min(side, size) - 1) / 2, size - 1 - (min(side, size) - 1) / 2)
                assert abs(float(places.mean() - nearest)) <= 0.5 + 1e-6


def test_works_on_what_the_search_finds() -> None:
    images = patches([[(int(top), 12, 6, 6)] for top in range(4, 24)])
    labels = torch.zeros(20, dtype=torch.long)
    evidence = find_evidence(either, images, labels, SearchSettings())
    judged = judge_with_squares(either, images, evidence, 100)
    assert evidence.correct.all()
    assert judged.flips[:, 0].all()
    assert torch.equal(judged.alone.isnan(), evidence.alone.isnan())
