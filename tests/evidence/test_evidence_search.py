"""The search for evidence on functions of images whose evidence is known by construction."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from salve_audit.evidence.controls import (
    N_DRAWS,
    flip_at_random,
    flips_at_random,
    move_inside,
    summarise_chance,
)
from salve_audit.evidence.findings import (
    assess_evidence,
    count_removals,
    flips_without_concept,
    mark_still_correct,
    mask_of,
)
from salve_audit.evidence.probe import ProbeOutput, hard_margin, soft_margin
from salve_audit.evidence.regions import (
    attribute,
    choose_grid,
    fill_regions,
    grow_region,
    peak_region,
    to_grid,
    to_pixels,
)
from salve_audit.evidence.search import Evidence, SearchSettings, find_evidence
from salve_audit.reliance.survival import wilson

SIDE, PATCH = 32, 7
RED, BLUE = 0, 2


def draw(rows: list[tuple[int, ...]], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Grey noise with a patch of each colour channel named in a row; returns images and masks (n, 3, s, s)."""
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


def one_colour(images: Tensor) -> ProbeOutput:
    score = amounts(images)[:, RED]
    return ProbeOutput(torch.stack([20 * score, torch.full_like(score, 6.0)], 1), images.detach())


def two_colours(images: Tensor) -> ProbeOutput:
    score = amounts(images)[:, [RED, BLUE]].amax(1)
    return ProbeOutput(torch.stack([20 * score, torch.full_like(score, 6.0)], 1), images.detach())


def test_single_cue_is_found_where_it_is_and_all_depends_on_it() -> None:
    images, masks = draw([(RED,)] * 40)
    evidence = find_evidence(one_colour, images, torch.zeros(40, dtype=torch.long), SearchSettings())
    findings = assess_evidence(evidence, np.random.default_rng(0))
    (finding,) = findings.classes
    assert finding.reliance.value == 1.0
    assert finding.redundancy == 1
    assert finding.n_correct == finding.n == 40
    (concept,) = findings.concepts
    region = mask_of(evidence, concept)
    covered = (region & masks[concept.images, RED]).sum((1, 2)) / masks[concept.images, RED].sum((1, 2))
    assert covered.min() > 0.9
    assert region.float().mean() < 4 * PATCH**2 / SIDE**2
    assert finding.concept == 0
    assert concept.channels[0] == RED


def test_redundant_cues_are_two_concepts_and_nothing_depends_on_one() -> None:
    images, masks = draw([(RED, BLUE)] * 40)
    evidence = find_evidence(two_colours, images, torch.zeros(40, dtype=torch.long), SearchSettings())
    findings = assess_evidence(evidence, np.random.default_rng(0))
    (finding,) = findings.classes
    assert finding.reliance.value == 0.0
    assert finding.concept is None
    assert finding.redundancy == 2
    assert len(findings.concepts) == 2
    named = set()
    for concept in findings.concepts:
        region = mask_of(evidence, concept)
        on = [(region & masks[concept.images, colour]).any((1, 2)).float().mean() for colour in (RED, BLUE)]
        assert max(on) > 0.9
        assert min(on) < 0.1
        named.add(int(np.argmax(on)))
    assert named == {0, 1}


def test_reliance_is_the_share_of_images_that_have_only_that_cue() -> None:
    images, _ = draw([(RED,)] * 20 + [(BLUE,)] * 12 + [(RED, BLUE)] * 18)
    evidence = find_evidence(two_colours, images, torch.zeros(50, dtype=torch.long), SearchSettings())
    findings = assess_evidence(evidence, np.random.default_rng(0))
    assert findings.classes[0].reliance.value == pytest.approx(20 / 50)
    assert findings.classes[0].reliance.low <= 0.4 <= findings.classes[0].reliance.high
    drops = sorted(concept.effect[0].value for concept in findings.concepts)
    assert drops == pytest.approx([12 / 50, 20 / 50])
    assert findings.classes[0].redundancy == 1  # 32 of 50 are misclassified without their first region


def test_wrong_images_have_no_evidence() -> None:
    images, _ = draw([(RED,)] * 6 + [(BLUE,)] * 4)
    evidence = find_evidence(one_colour, images, torch.zeros(10, dtype=torch.long), SearchSettings())
    assert evidence.correct.tolist() == [True] * 6 + [False] * 4
    assert not evidence.regions[6:].any()
    assert evidence.alone[6:].isnan().all()
    finding = assess_evidence(evidence, np.random.default_rng(0)).classes[0]
    assert (finding.n, finding.n_correct) == (10, 6)
    assert finding.reliance.value == pytest.approx(0.6)


def test_margins_are_those_of_the_changed_images() -> None:
    images, _ = draw([(RED, BLUE)] * 5)
    labels = torch.zeros(5, dtype=torch.long)
    evidence = find_evidence(two_colours, images, labels, SearchSettings(merged=False))
    both = torch.zeros(5, 1, SIDE, SIDE)
    for slot in range(2):
        region = to_pixels(evidence.regions[:, slot, None].float(), (SIDE, SIDE))
        alone = hard_margin(two_colours(fill_regions(images, region)).logits, labels)
        torch.testing.assert_close(evidence.alone[:, slot], alone)
        both = torch.maximum(both, region)
        together = hard_margin(two_colours(fill_regions(images, both)).logits, labels)
        torch.testing.assert_close(evidence.together[:, slot], together)


def test_batches_do_not_change_the_result_and_passes_are_counted() -> None:
    images, _ = draw([(RED, BLUE)] * 7)
    labels = torch.zeros(7, dtype=torch.long)
    n_passes = 0

    def counting(prepared: Tensor) -> ProbeOutput:
        nonlocal n_passes
        n_passes += len(prepared) * (3 if prepared.requires_grad else 1)
        return two_colours(prepared)

    at_once = find_evidence(counting, images, labels, SearchSettings())
    assert at_once.n_passes == n_passes
    parts = find_evidence(two_colours, images, labels, SearchSettings(batch_size=3))
    assert parts.n_passes == at_once.n_passes
    for name, value in dataclasses.asdict(at_once).items():
        torch.testing.assert_close(getattr(parts, name), value, equal_nan=True)


def test_random_places_flip_less_than_the_evidence() -> None:
    images, _ = draw([(RED,)] * 40)
    evidence = find_evidence(one_colour, images, torch.zeros(40, dtype=torch.long), SearchSettings())
    chance = flip_at_random(one_colour, images, evidence, 16, np.random.default_rng(0))
    assert chance[0].low <= chance[0].value < chance[0].high < 0.5
    assert evidence.flips[:, 0].all()


def test_random_places_are_moved_first_regions_and_the_same_part_by_part() -> None:
    images, _ = draw([(RED,)] * 9 + [(BLUE,)] * 2)
    evidence = find_evidence(one_colour, images, torch.zeros(11, dtype=torch.long), SearchSettings())
    batches: list[Tensor] = []

    def listening(prepared: Tensor) -> ProbeOutput:
        batches.append(prepared)
        return one_colour(prepared)

    at_once, n_passes = flips_at_random(listening, images, evidence, 100, np.random.default_rng(3))
    assert at_once.shape == (11, N_DRAWS)
    assert not at_once[9:].any()  # wrong from the start
    assert sum(len(changed) for changed in batches) == n_passes
    assert len(batches[0]) == 9, "what is wrong from the start cannot flip"
    for changed in batches[:1]:  # then come the squares around them
        n_changed = (changed != images[:9]).any(1).sum((1, 2))
        assert (n_changed[:9] <= evidence.regions[:9, 0].sum((1, 2))).all()
        assert (n_changed[:9] > 0.9 * evidence.regions[:9, 0].sum((1, 2))).all()
    rng = np.random.default_rng(3)
    parts = [
        flips_at_random(one_colour, images[own], evidence.take(own), 2, rng)[0] for own in (slice(0, 4), slice(4, 11))
    ]
    assert np.array_equal(np.concatenate(parts), at_once)
    share = summarise_chance(evidence, at_once)[0]
    assert share.value == at_once.mean()
    assert (share.low, share.high) == wilson(round(share.value * 11), 11)


def test_a_moved_place_stays_in_one_and_inside_of_the_image() -> None:
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

    def probe(prepared: Tensor) -> ProbeOutput:
        score = prepared.flatten(1) @ weight
        return ProbeOutput(torch.stack([score, torch.zeros_like(score)], 1), prepared)

    labels = torch.zeros(4, dtype=torch.long)
    base = images.mean((2, 3), keepdim=True).expand_as(images)
    expected = soft_margin(probe(images).logits, labels) - soft_margin(probe(base).logits, labels)
    for n_steps in (1, 3):
        attribution = attribute(probe, images, labels, n_steps)
        torch.testing.assert_close(attribution.sum((1, 2, 3)), expected, atol=1e-4, rtol=1e-4)
    grid = to_grid(attribution, (4, 4), 1.0)
    assert grid.shape == (4, 1, 4, 4)
    assert (grid >= 0).all()


@pytest.mark.parametrize("size", [(8, 8), (7, 13), (1, 9), (32, 20)])
def test_filling_leaves_what_is_outside_and_continues_what_is_around(size: tuple[int, int]) -> None:
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
    for row, heat in enumerate(evidence[:, 0].numpy()):
        labelled, _ = ndimage.label(heat > 0.6 * heat.max(), structure=np.ones((3, 3)))
        expected = labelled == labelled[np.unravel_index(heat.argmax(), heat.shape)]
        actual = region[row, 0].numpy() > 0
        assert not (actual & ~expected).any()
        assert actual.sum() >= 0.9 * expected.sum()  # long windings are cut off
        assert height[row] == heat.max()
    empty, _ = peak_region(torch.zeros(1, 1, 8, 8), 0.2, 2)
    assert not empty.any()


def test_growing_adds_only_what_touches() -> None:
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


def test_images_without_a_further_region_stay_what_they_were() -> None:
    nan = np.nan
    clean = np.array([1.0, 1.0, 1.0, -1.0])
    together = np.array([[0.5, nan, nan], [-0.5, nan, nan], [0.5, -0.5, nan], [nan, nan, nan]])
    right = [[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert mark_still_correct(clean, together).astype(int).tolist() == right


def test_a_class_without_evidence_survives_all_that_can_be_removed() -> None:
    grey = torch.full((8, 3, SIDE, SIDE), 0.5)

    def constant(images: Tensor) -> ProbeOutput:
        flat = 0 * images.mean((1, 2, 3))
        return ProbeOutput(torch.stack([flat + 1, flat], 1), images.detach())

    evidence = find_evidence(constant, grey, torch.zeros(8, dtype=torch.long), SearchSettings())
    (finding,) = assess_evidence(evidence, np.random.default_rng(0)).classes
    assert (finding.redundancy, finding.redundancy_low, finding.reliance.value) == (None, None, 0.0)


def test_effects_follow_the_regions() -> None:
    images, _ = draw([(RED,)] * 4 + [(RED, BLUE)] * 8)
    evidence: Evidence = find_evidence(two_colours, images, torch.zeros(12, dtype=torch.long), SearchSettings())
    findings = assess_evidence(evidence, np.random.default_rng(0))
    flipped = np.logical_or.reduce([flips_without_concept(evidence, concept) for concept in findings.concepts])
    assert flipped.tolist() == [True] * 4 + [False] * 8
