"""The search for evidence on functions of pictures whose evidence is known by construction."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from salve_audit.reliance.depth.assess import assess_depth, count_removals, mask_of, piece_effects, still_right
from salve_audit.reliance.depth.attribution import attribute, to_grid
from salve_audit.reliance.depth.evidence import Evidence, SearchSettings, find_evidence
from salve_audit.reliance.depth.filling import fill_regions
from salve_audit.reliance.depth.network import Seen, hard_margin, soft_margin
from salve_audit.reliance.depth.nulls import (
    N_DRAWS,
    count_passes,
    flip_at_random,
    move_inside,
    summarise_null,
    turn_at_random,
)
from salve_audit.reliance.depth.regions import choose_grid, grow_region, peak_region, to_pixels
from salve_audit.reliance.depth.whole import (
    Batches,
    find_usual,
    flip_without_whole,
    turn_changed,
    with_more_colour,
    without_colour,
    without_frame,
    without_ring,
)
from salve_audit.reliance.survival import wilson

SIDE, PATCH = 32, 7
RED, BLUE = 0, 2


def draw(rows: list[tuple[int, ...]], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Grey noise with a patch of each colour channel named in a row; returns pictures and masks (n, 3, s, s)."""
    rng = np.random.default_rng(seed)
    images = 0.02 * torch.from_numpy(rng.standard_normal((len(rows), 3, SIDE, SIDE))).float()
    masks = torch.zeros(len(rows), 3, SIDE, SIDE, dtype=torch.bool)
    for row, colours in enumerate(rows):
        # in opposite halves, so that they never touch
        for half, colour in enumerate(rng.permutation(colours)):
            top = int(rng.integers(SIDE - PATCH))
            left = int(rng.integers(SIDE // 2 - PATCH - 3)) + half * (SIDE // 2 + 3)
            images[row, :, top : top + PATCH, left : left + PATCH] = -0.5
            images[row, colour, top : top + PATCH, left : left + PATCH] = rng.uniform(0.8, 1.2)
            masks[row, colour, top : top + PATCH, left : left + PATCH] = True
    return images, masks


def amounts(images: Tensor) -> Tensor:
    """(b, 3): how much of a pure colour there is, in patches."""
    pure = images - (images.sum(1, keepdim=True) - images) / 2
    return (pure - 0.5).relu().sum((2, 3)) / PATCH**2


def one_colour(images: Tensor) -> Seen:
    score = amounts(images)[:, RED]
    return Seen(torch.stack([20 * score, torch.full_like(score, 6.0)], 1), images.detach())


def two_colours(images: Tensor) -> Seen:
    score = amounts(images)[:, [RED, BLUE]].amax(1)
    return Seen(torch.stack([20 * score, torch.full_like(score, 6.0)], 1), images.detach())


def test_single_cue_is_found_where_it_is_and_all_rests_on_it() -> None:
    images, masks = draw([(RED,)] * 40)
    evidence = find_evidence(one_colour, images, torch.zeros(40, dtype=torch.long), SearchSettings())
    findings = assess_depth(evidence, np.random.default_rng(0))
    (found,) = findings.classes
    assert found.reliance.value == 1.0
    assert found.redundancy == 1
    assert found.n_correct == found.n == 40
    (concept,) = findings.concepts
    region = mask_of(evidence, concept)
    covered = (region & masks[concept.pictures, RED]).sum((1, 2)) / masks[concept.pictures, RED].sum((1, 2))
    assert covered.min() > 0.9
    assert region.float().mean() < 4 * PATCH**2 / SIDE**2
    assert found.concept == 0
    assert concept.channels[0] == RED


def test_redundant_cues_are_two_concepts_and_nothing_rests_on_one() -> None:
    images, masks = draw([(RED, BLUE)] * 40)
    evidence = find_evidence(two_colours, images, torch.zeros(40, dtype=torch.long), SearchSettings())
    findings = assess_depth(evidence, np.random.default_rng(0))
    (found,) = findings.classes
    assert found.reliance.value == 0.0
    assert found.concept is None
    assert found.redundancy == 2
    assert len(findings.concepts) == 2
    named = set()
    for concept in findings.concepts:
        region = mask_of(evidence, concept)
        on = [(region & masks[concept.pictures, colour]).any((1, 2)).float().mean() for colour in (RED, BLUE)]
        assert max(on) > 0.9
        assert min(on) < 0.1
        named.add(int(np.argmax(on)))
    assert named == {0, 1}


def test_reliance_is_the_share_of_pictures_that_have_only_that_cue() -> None:
    images, _ = draw([(RED,)] * 20 + [(BLUE,)] * 12 + [(RED, BLUE)] * 18)
    evidence = find_evidence(two_colours, images, torch.zeros(50, dtype=torch.long), SearchSettings())
    findings = assess_depth(evidence, np.random.default_rng(0))
    assert findings.classes[0].reliance.value == pytest.approx(20 / 50)
    assert findings.classes[0].reliance.low <= 0.4 <= findings.classes[0].reliance.high
    drops = sorted(concept.effect[0].value for concept in findings.concepts)
    assert drops == pytest.approx([12 / 50, 20 / 50])
    assert findings.classes[0].redundancy == 1  # 32 of 50 turn wrong without their first piece


def test_wrong_pictures_have_no_evidence() -> None:
    images, _ = draw([(RED,)] * 6 + [(BLUE,)] * 4)
    evidence = find_evidence(one_colour, images, torch.zeros(10, dtype=torch.long), SearchSettings())
    assert evidence.correct.tolist() == [True] * 6 + [False] * 4
    assert not evidence.regions[6:].any()
    assert evidence.alone[6:].isnan().all()
    found = assess_depth(evidence, np.random.default_rng(0)).classes[0]
    assert (found.n, found.n_correct) == (10, 6)
    assert found.reliance.value == pytest.approx(0.6)


def test_margins_are_those_of_the_changed_pictures() -> None:
    images, _ = draw([(RED, BLUE)] * 5)
    labels = torch.zeros(5, dtype=torch.long)
    evidence = find_evidence(two_colours, images, labels, SearchSettings(merged=False))
    both = torch.zeros(5, 1, SIDE, SIDE)
    for piece in range(2):
        region = to_pixels(evidence.regions[:, piece, None].float(), (SIDE, SIDE))
        alone = hard_margin(two_colours(fill_regions(images, region)).logits, labels)
        torch.testing.assert_close(evidence.alone[:, piece], alone)
        both = torch.maximum(both, region)
        together = hard_margin(two_colours(fill_regions(images, both)).logits, labels)
        torch.testing.assert_close(evidence.together[:, piece], together)


def test_batches_do_not_change_the_result_and_passes_are_counted() -> None:
    images, _ = draw([(RED, BLUE)] * 7)
    labels = torch.zeros(7, dtype=torch.long)
    n_seen = 0

    def counting(pictures: Tensor) -> Seen:
        nonlocal n_seen
        n_seen += len(pictures) * (3 if pictures.requires_grad else 1)
        return two_colours(pictures)

    whole = find_evidence(counting, images, labels, SearchSettings())
    assert whole.n_passes == n_seen
    parts = find_evidence(two_colours, images, labels, SearchSettings(batch_size=3))
    assert parts.n_passes == whole.n_passes
    for name, value in dataclasses.asdict(whole).items():
        torch.testing.assert_close(getattr(parts, name), value, equal_nan=True)


def test_random_places_flip_less_than_the_evidence() -> None:
    images, _ = draw([(RED,)] * 40)
    evidence = find_evidence(one_colour, images, torch.zeros(40, dtype=torch.long), SearchSettings())
    null = flip_at_random(one_colour, images, evidence, 16, np.random.default_rng(0))
    assert null[0].low <= null[0].value < null[0].high < 0.5
    assert evidence.flips[:, 0].all()


def test_random_places_are_moved_first_pieces_and_the_same_part_by_part() -> None:
    images, _ = draw([(RED,)] * 9 + [(BLUE,)] * 2)
    evidence = find_evidence(one_colour, images, torch.zeros(11, dtype=torch.long), SearchSettings())
    asked: list[Tensor] = []

    def listening(pictures: Tensor) -> Seen:
        asked.append(pictures)
        return one_colour(pictures)

    whole = turn_at_random(listening, images, evidence, 100, np.random.default_rng(3))
    assert whole.shape == (11, N_DRAWS)
    assert not whole[9:].any()  # wrong from the start
    assert sum(len(changed) for changed in asked) == count_passes(evidence) == 11 + 2 * 9
    for changed in asked[:1]:  # then come the squares around them
        n_changed = (changed != images).any(1).sum((1, 2))
        assert (n_changed[:9] <= evidence.regions[:9, 0].sum((1, 2))).all()
        assert (n_changed[:9] > 0.9 * evidence.regions[:9, 0].sum((1, 2))).all()
    rng = np.random.default_rng(3)
    parts = [turn_at_random(one_colour, images[own], evidence.take(own), 2, rng) for own in (slice(0, 4), slice(4, 11))]
    assert np.array_equal(np.concatenate(parts), whole)
    share = summarise_null(evidence, whole)[0]
    assert share.value == whole.mean()
    assert (share.low, share.high) == wilson(round(share.value * 11), 11)


def test_a_moved_place_stays_whole_and_inside_of_the_picture() -> None:
    region = torch.zeros(32, 32, dtype=torch.bool)
    region[3:15, 20:24] = True
    region[3, 20] = False
    rng = np.random.default_rng(0)
    tops, lefts = set(), set()
    for shares in rng.random((400, 2)).tolist():
        moved = move_inside(region, (shares[0], shares[1]))
        rows, columns = moved.any(1).nonzero()[:, 0], moved.any(0).nonzero()[:, 0]
        assert (len(rows), len(columns)) == (12, 4)
        top, left = int(rows[0]), int(columns[0])
        assert torch.equal(moved[top : top + 12, left : left + 4], region[3:15, 20:24])
        tops.add(top)
        lefts.add(left)
    assert tops == set(range(21))
    assert lefts == set(range(29))
    assert not move_inside(torch.zeros(4, 4, dtype=torch.bool), (0.5, 0.5)).any()


def test_attribution_of_a_linear_margin_is_complete() -> None:
    weight = torch.randn(3 * 8 * 8, generator=torch.Generator().manual_seed(0))
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))

    def probe(pictures: Tensor) -> Seen:
        score = pictures.flatten(1) @ weight
        return Seen(torch.stack([score, torch.zeros_like(score)], 1), pictures)

    labels = torch.zeros(4, dtype=torch.long)
    base = images.mean((2, 3), keepdim=True).expand_as(images)
    expected = soft_margin(probe(images).logits, labels) - soft_margin(probe(base).logits, labels)
    for n_steps in (1, 3):
        found = attribute(probe, images, labels, n_steps)
        torch.testing.assert_close(found.sum((1, 2, 3)), expected, atol=1e-4, rtol=1e-4)
    grid = to_grid(found, (4, 4), 1.0)
    assert grid.shape == (4, 1, 4, 4)
    assert (grid >= 0).all()


@pytest.mark.parametrize("size", [(8, 8), (7, 13), (1, 9), (32, 20)])
def test_filling_keeps_what_is_outside_and_takes_what_is_around(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, *size, generator=generator)
    region = (torch.rand(2, 1, *size, generator=generator) < 0.3).float()
    filled = fill_regions(images, region)
    outside = (region == 0).expand_as(images)
    assert torch.equal(filled[outside], images[outside])
    assert filled.isfinite().all()
    flat = torch.full_like(images, 0.7)
    torch.testing.assert_close(fill_regions(flat + 3 * region, region), flat)
    assert torch.equal(fill_regions(images, torch.ones_like(region)), torch.zeros_like(images))


def test_filling_continues_a_slope() -> None:
    slope = torch.linspace(0, 1, 32).expand(1, 1, 32, 32).clone()
    region = torch.zeros(1, 1, 32, 32)
    region[..., 10:18, 12:20] = 1
    error = (fill_regions(slope + 5 * region, region) - slope).abs().max()
    assert error < 0.15  # one colour would be off by up to 0.6


def test_peak_regions_are_the_connected_cells_above_the_share() -> None:
    noise = torch.randn(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    evidence = to_grid(noise, (16, 16), 1.5)
    region, height = peak_region(evidence, 0.6, 0)
    for row, one in enumerate(evidence[:, 0].numpy()):
        labelled, _ = ndimage.label(one > 0.6 * one.max(), structure=np.ones((3, 3)))
        expected = labelled == labelled[np.unravel_index(one.argmax(), one.shape)]
        found = region[row, 0].numpy() > 0
        assert not (found & ~expected).any()
        assert found.sum() >= 0.9 * expected.sum()  # long windings are cut off
        assert height[row] == one.max()
    empty, _ = peak_region(torch.zeros(1, 1, 8, 8), 0.2, 2)
    assert not empty.any()


def test_growing_takes_only_what_touches() -> None:
    region, evidence = torch.zeros(1, 1, 12, 12), torch.zeros(1, 1, 12, 12)
    region[..., 2:5, 2:5] = 1
    evidence[..., 2:5, 5:8] = 1.0  # next to it
    evidence[..., 9:11, 9:11] = 1.0  # apart
    grown = grow_region(region, evidence, torch.full((1, 1, 1, 1), 0.5), 0)
    expected = region.clone()
    expected[..., 2:5, 5:8] = 1
    assert torch.equal(grown, expected)


@pytest.mark.parametrize(
    ("size", "grid"), [((32, 32), (32, 32)), ((224, 224), (32, 32)), ((20, 40), (16, 32)), ((5, 5), (5, 5))]
)
def test_grid_is_never_finer_than_pixels(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert choose_grid(*size) == grid


def test_redundancy_counts_until_half_is_left() -> None:
    right = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 0, 0]], bool)
    assert count_removals(right) == 2
    assert count_removals(right[:, :2]) is None
    assert count_removals(np.zeros((3, 2), bool)) == 0


def test_pictures_without_a_further_piece_stay_what_they_were() -> None:
    nan = np.nan
    clean = np.array([1.0, 1.0, 1.0, -1.0])
    together = np.array([[0.5, nan, nan], [-0.5, nan, nan], [0.5, -0.5, nan], [nan, nan, nan]])
    right = [[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert still_right(clean, together).astype(int).tolist() == right


def test_a_class_without_evidence_survives_all_that_can_be_taken_out() -> None:
    grey = torch.full((8, 3, SIDE, SIDE), 0.5)

    def constant(pictures: Tensor) -> Seen:
        flat = 0 * pictures.mean((1, 2, 3))
        return Seen(torch.stack([flat + 1, flat], 1), pictures.detach())

    evidence = find_evidence(constant, grey, torch.zeros(8, dtype=torch.long), SearchSettings())
    (found,) = assess_depth(evidence, np.random.default_rng(0)).classes
    assert (found.redundancy, found.redundancy_low, found.reliance.value) == (None, None, 0.0)


def test_effects_follow_the_pieces() -> None:
    images, _ = draw([(RED,)] * 4 + [(RED, BLUE)] * 8)
    evidence: Evidence = find_evidence(two_colours, images, torch.zeros(12, dtype=torch.long), SearchSettings())
    findings = assess_depth(evidence, np.random.default_rng(0))
    turned = np.logical_or.reduce([piece_effects(evidence, one) for one in findings.concepts])
    assert turned.tolist() == [True] * 4 + [False] * 8


def test_frames_and_tints_are_asked_for_as_a_whole() -> None:
    images = 0.02 * torch.randn(20, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    images[:10, 0, :2] = images[:10, 0, -2:] = 1.0
    images[:10, 0, :, :2] = images[:10, 0, :, -2:] = 1.0
    images[10:, 2] += 0.4
    labels = torch.tensor([0] * 10 + [1] * 10)

    def probe(pictures: Tensor) -> Seen:
        frame = (pictures[:, 0, :2].mean((1, 2)) + pictures[:, 0, -2:].mean((1, 2))) / 2
        blue = pictures[:, 2].mean((1, 2)) - pictures[:, :2].mean((1, 2, 3))
        return Seen(torch.stack([frame, blue, torch.full_like(frame, 0.25)], 1), pictures.detach())

    evidence = find_evidence(probe, images, labels, SearchSettings())
    assert evidence.correct.all()
    turned = flip_without_whole(probe, images, evidence, 7)
    assert turned["frame"].tolist() == [True] * 10 + [False] * 10
    assert turned["overall colour"][10:].all()
    # the nulls change as much and leave it in the picture
    batches, usual = Batches(images, evidence, 7), find_usual(images)
    assert not turn_changed(probe, batches, without_ring, usual)[:10].any()
    assert not turn_changed(probe, batches, with_more_colour, usual)[10:].any()


@pytest.mark.parametrize("size", [(32, 32), (224, 224), (20, 48), (9, 9), (4, 4), (3, 5)])
def test_the_ring_is_as_large_as_the_frame_and_apart_from_it(size: tuple[int, int]) -> None:
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    usual = find_usual(images)
    frame, ring = ((change(images, usual) != images).any(1) for change in (without_frame, without_ring))
    assert not (frame & ring).any()
    inside = int((~frame).sum())
    assert abs(int(ring.sum()) - min(int(frame.sum()), inside)) <= 2 * sum(size)  # whole pixels


def test_more_colour_is_less_colour_the_other_way() -> None:
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + torch.rand(6, 3, 1, 1)
    usual = find_usual(images)
    less, more = without_colour(images, usual), with_more_colour(images, usual)
    middle = (less.mean((2, 3)) + more.mean((2, 3))) / 2
    torch.testing.assert_close(middle, images.mean((2, 3)))
    torch.testing.assert_close(less.std((2, 3)) * more.std((2, 3)), images.var((2, 3)))
