"""Findings in the image as records, the sample they come from, and chance."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from salve_audit.evidence.controls import flip_at_random
from salve_audit.evidence.factors.effects import exact_interval
from salve_audit.evidence.factors.measure import UNSEEN, ExaminedImages, FactorAnswers
from salve_audit.evidence.findings import Share, assess_evidence
from salve_audit.evidence.probe import ProbeOutput
from salve_audit.evidence.records import (
    add_factors,
    describe_classes,
    describe_concepts,
    widen_interval,
)
from salve_audit.evidence.search import SearchSettings, find_evidence
from salve_audit.evidence.stage import PER_ROUND, choose_rounds
from salve_audit.reliance.survival import wilson

SIDE = 16


def bright_corner(images: torch.Tensor) -> ProbeOutput:
    """Class 1 wherever the upper left corner is bright; the other places count for nothing."""
    corner = images[:, :1, :4, :4].mean((1, 2, 3))
    return ProbeOutput(torch.stack([torch.full_like(corner, 0.5), corner], 1), images)


def prepared() -> tuple[torch.Tensor, torch.Tensor]:
    images = 0.1 * torch.rand(40, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 2
    images[labels == 1, :, :4, :4] = 1.0
    return images, labels


def test_a_class_on_one_place_is_found_beyond_chance() -> None:
    images, labels = prepared()
    evidence = find_evidence(bright_corner, images, labels, SearchSettings(batch_size=16))
    findings = assess_evidence(evidence, np.random.default_rng(0))
    chance = flip_at_random(bright_corner, images, evidence, 16, np.random.default_rng(1))
    records = describe_classes(findings, chance)
    assert records[1].reliance == 1.0
    assert records[1].redundancy == 1
    assert records[1].low > 0.8  # not 1: twenty images do not verify that
    assert (records[1].thin, records[1].n, records[1].n_correct) == (True, 20, 20)
    assert records[0].reliance == 0.0
    assert records[0].redundancy is None
    assert 0 <= chance[1].low <= chance[1].value <= chance[1].high < 0.8
    drawn = (records[1].chance, records[1].chance_low, records[1].chance_high)
    assert drawn == (chance[1].value, chance[1].low, chance[1].high)
    concept = describe_concepts(findings, "layer1", ("dark", "bright"))[records[1].concept]
    assert concept.class_name == concept.effect[0].class_name == "bright"
    assert (concept.effect[0].drop, concept.n_images) == (1.0, 20)
    assert 1 / SIDE <= concept.mask_share <= 0.5


def test_intervals_do_not_vanish_where_every_image_flipped() -> None:
    assert widen_interval(Share(1.0, 1.0, 1.0), 30) == (wilson(30, 30)[0], 1.0)
    assert widen_interval(Share(0.5, 0.3, 0.7), 30)[1] >= 0.7
    assert widen_interval(Share(0.0, float("nan"), float("nan")), 3) == wilson(0, 3)


def test_a_class_of_which_no_image_is_correct_depends_on_nothing() -> None:
    images, labels = prepared()
    evidence = find_evidence(bright_corner, images, 1 - labels, SearchSettings(batch_size=16))
    findings = assess_evidence(evidence, np.random.default_rng(0))
    records = describe_classes(findings, flip_at_random(bright_corner, images, evidence, 16, np.random.default_rng(1)))
    for label in (0, 1):
        assert (records[label].n_correct, records[label].reliance, records[label].redundancy) == (0, 0.0, 0)
        assert records[label].concept is None
        assert (records[label].chance, records[label].chance_high) == (0.0, wilson(0, 20)[1])


@pytest.fixture
def labels() -> np.ndarray:
    return np.repeat(np.arange(10), 200)


def test_images_come_in_rounds_each_with_the_most_fragile_class_first(labels: np.ndarray) -> None:
    fragility = np.arange(10, 0, -1.0)
    fragility[9] = np.nan  # known of no image: last
    rounds = choose_rounds(labels, fragility)
    for rows, n in zip(rounds, PER_ROUND, strict=True):
        assert labels[rows].tolist() == np.repeat([8, 7, 6, 5, 4, 3, 2, 1, 0, 9], n).tolist()
    assert len(np.unique(np.concatenate(rounds))) == 10 * sum(PER_ROUND)


def test_classes_with_few_images_cost_no_more_than_they_have() -> None:
    uneven = np.repeat(np.arange(3), [5, 45, 200])
    rounds, (few, some, more, most) = choose_rounds(uneven, np.ones(3)), PER_ROUND
    assert [np.bincount(uneven[rows], minlength=3).tolist() for rows in rounds] == [
        [5, few, few],
        [0, some, some],
        [0, 45 - few - some, more],
        [0, 0, most],
    ]


def test_a_class_that_depends_on_no_place_is_found_by_its_global_factor() -> None:
    images, labels = prepared()
    evidence = find_evidence(bright_corner, images, labels, SearchSettings(batch_size=16))
    findings = assess_evidence(evidence, np.random.default_rng(0))
    records, concepts = describe_classes(findings, {}), describe_concepts(findings, "layer1", ("dark", "bright"))
    kept, every = labels.numpy(), np.ones(40, bool)
    lost = np.where(kept == 0, 1, kept)
    nothing = (np.full((2, 0), UNSEEN), np.empty(0, int))
    answers = {"border": FactorAnswers(lost, every, *nothing), "colour": FactorAnswers(kept, every, *nothing)}
    examined = ExaminedImages(kept, evidence.clean.numpy())
    better, more = add_factors(records, concepts, answers, examined, ("dark", "bright"))
    names = [(effect.name, effect.removed, effect.chance) for effect in better[1].factors]
    assert names == [("border", 0.0, 1.0), ("colour", 0.0, 0.0)]
    assert dataclasses.replace(better[1], factors=()) == records[1]  # it loses no more without a global factor
    assert better[0].kind == "border"
    names = [(effect.name, effect.removed, effect.chance) for effect in better[0].factors]
    assert names == [("border", 1.0, 0.0), ("colour", 0.0, 0.0)]
    assert better[0].reliance == 1.0
    assert better[0].low == exact_interval(20, 20, 0.975)[0]  # two factors
    assert (better[0].chance, better[0].is_by_chance, better[0].sufficient) == (0.0, False, None)
    assert (better[0].redundancy, better[0].redundancy_low, better[0].redundancy_high) == (1, 1, 1)
    factor = more[better[0].concept]
    assert (factor.kind, factor.factor, factor.class_name, factor.index) == ("border", "border", "dark", len(concepts))
    assert more[: len(concepts)] == concepts
