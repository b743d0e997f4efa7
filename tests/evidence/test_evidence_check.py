"""The check by occlusion, on functions of images for which both ways of removing must agree, or must not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from salve_audit.evidence.controls import (
    MOST_COVERED,
    Cover,
    bound_regions,
    check_by_occlusion,
    checked_concepts,
    checked_slots,
    flips_under_cover,
    measure_kappa,
)
from salve_audit.evidence.findings import assess_evidence
from salve_audit.evidence.probe import ProbeOutput, hard_margin
from salve_audit.evidence.regions import to_pixels
from salve_audit.evidence.search import Evidence, SearchSettings, find_evidence
from salve_audit.reliance.survival import wilson

SIDE, PATCH = 32, 7


def red_patches(n: int, ground: float, seed: int = 0) -> Tensor:
    """Images (n, 3, s, s) of one value with a patch, pure red, at a random place."""
    rng = np.random.default_rng(seed)
    images = ground + 0.01 * torch.from_numpy(rng.standard_normal((n, 3, SIDE, SIDE))).float()
    for row in range(n):
        top, left = rng.integers(3, SIDE - PATCH - 3, 2)
        images[row, :, top : top + PATCH, left : left + PATCH] = torch.tensor([1.0, -1.0, -1.0])[:, None, None]
    return images


def reds(images: Tensor) -> ProbeOutput:
    """Class 0 where enough is redder than anything else."""
    score = (images[:, 0] - images[:, 1] - 0.5).relu().sum((1, 2)) / PATCH**2
    return ProbeOutput(torch.stack([20 * score, torch.full_like(score, 6.0)], 1), images.detach())


def search(images: Tensor) -> Evidence:
    return find_evidence(reds, images, torch.zeros(len(images), dtype=torch.long), SearchSettings())


def test_both_ways_agree_where_a_single_thing_is_there() -> None:
    images = red_patches(40, 0.0)
    evidence = search(images)
    findings = assess_evidence(evidence, np.random.default_rng(0))
    checks = check_by_occlusion(reds, images, evidence, findings, 7)
    assert list(checks) == [0]
    check = checks[0]
    assert (check.concept, check.n, check.agreement, check.occluded, check.kappa) == (0, MOST_COVERED, 1.0, 1.0, None)
    assert (check.low, check.high) == wilson(MOST_COVERED, MOST_COVERED)


def test_a_finding_that_only_the_filling_makes_is_contradicted() -> None:
    """The images' mean colour is red itself, so that a covered patch counts on; what is around it is not."""
    images = red_patches(30, 0.0)
    allred = torch.ones(60, 3, SIDE, SIDE)
    allred[:, 1:] = -1.0
    prepared = torch.cat([images, allred])
    labels = torch.tensor([0] * 30 + [1] * 60)
    evidence = find_evidence(reds, prepared, labels, SearchSettings())
    findings = assess_evidence(evidence, np.random.default_rng(0))
    assert findings.classes[0].reliance.value == 1.0
    checks = check_by_occlusion(reds, prepared, evidence, findings, 16)
    assert list(checks) == [0]  # images that are misclassified from the start have no region
    assert (checks[0].agreement, checks[0].occluded, checks[0].kappa) == (0.0, 0.0, 0.0)
    assert checks[0].occluded_high == wilson(0, MOST_COVERED)[1]


def test_shares_are_those_of_a_loop_over_images() -> None:
    images = torch.cat([red_patches(12, 0.0), red_patches(20, 0.3, seed=1), torch.zeros(8, 3, SIDE, SIDE)])
    evidence = search(images)
    findings = assess_evidence(evidence, np.random.default_rng(0))
    colour = images.mean((0, 2, 3), keepdim=True)
    checked = checked_slots(evidence, findings)
    flipped = flips_under_cover(reds, images, evidence, Cover(checked, colour), 5)
    for row in range(len(images)):
        expected = False
        for slot in np.flatnonzero(checked[row]):
            region = to_pixels(evidence.regions[row, slot][None, None].float(), (SIDE, SIDE))[0, 0]
            ys, xs = torch.nonzero(region, as_tuple=True)
            covered = images[row : row + 1].clone()
            covered[:, :, ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] = colour
            expected |= bool(hard_margin(reds(covered).logits, torch.zeros(1, dtype=torch.long)) <= 0)
        assert flipped[row] == expected, row
    check = check_by_occlusion(reds, images, evidence, findings, 16)[0]
    shown, covered = np.unique(findings.concepts[check.concept].images), checked.any(1)
    assert check.n == covered.sum() == MOST_COVERED < len(shown)
    assert set(np.flatnonzero(covered)) <= set(shown)
    assert check.occluded == pytest.approx(len(shown) / len(images) * flipped[covered].mean())


def test_the_concept_that_a_class_depends_on_is_checked_else_its_most_frequent() -> None:
    evidence = search(red_patches(10, 0.0))
    findings = assess_evidence(evidence, np.random.default_rng(0))
    other = dataclasses.replace(findings.concepts[0], images=np.array([3]), slots=np.array([0]))
    two = dataclasses.replace(findings, concepts=(findings.concepts[0], other))
    assert checked_concepts(two) == {0: 0}
    on_other = (dataclasses.replace(findings.classes[0], concept=1),)
    assert checked_concepts(dataclasses.replace(two, classes=on_other)) == {0: 1}
    on_none = (dataclasses.replace(findings.classes[0], concept=None),)
    assert checked_concepts(dataclasses.replace(two, classes=on_none)) == {0: 0}
    assert checked_slots(evidence, dataclasses.replace(two, classes=on_other)).sum() == 1


def test_boxes_are_the_smallest_around_regions() -> None:
    regions = torch.rand(40, 1, 9, 13, generator=torch.Generator().manual_seed(0)) < 0.03
    regions[0] = False
    for region, box in zip(regions[:, 0], bound_regions(regions)[:, 0], strict=True):
        expected = torch.zeros(9, 13)
        if region.any():
            ys, xs = torch.nonzero(region, as_tuple=True)
            expected[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] = 1
        assert torch.equal(box, expected)


def test_kappa_of_a_known_table_and_where_there_is_none() -> None:
    first = np.repeat([True, True, False, False], [20, 5, 10, 15])
    second = np.repeat([True, False, True, False], [20, 5, 10, 15])
    assert measure_kappa(first, second) == pytest.approx(0.4)
    assert measure_kappa(first, first) == pytest.approx(1.0)
    assert measure_kappa(np.ones(3, bool), np.ones(3, bool)) is None
