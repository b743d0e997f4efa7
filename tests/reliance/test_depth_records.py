"""Findings at depth as records, the sample they come from, and the null."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from salve_audit.reliance.depth import SearchSettings, Seen, assess_depth, find_evidence
from salve_audit.reliance.depth.assess import Share
from salve_audit.reliance.depth.nulls import flip_at_random
from salve_audit.reliance.depth.records import (
    add_wholes,
    describe_classes,
    describe_concepts,
    set_nulls,
    widen_interval,
)
from salve_audit.reliance.depth.sample import LEAST_PER_CLASS, MOST_PER_CLASS, PASSES, choose_sample
from salve_audit.reliance.survival import wilson

SIDE = 16


def bright_corner(images: torch.Tensor) -> Seen:
    """Class 1 wherever the upper left corner is bright; the other places count for nothing."""
    corner = images[:, :1, :4, :4].mean((1, 2, 3))
    return Seen(torch.stack([torch.full_like(corner, 0.5), corner], 1), images)


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    images = 0.1 * torch.rand(40, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 2
    images[labels == 1, :, :4, :4] = 1.0
    return images, labels


def test_a_class_on_one_place_is_found_beyond_random_places() -> None:
    images, labels = pictures()
    evidence = find_evidence(bright_corner, images, labels, SearchSettings(batch_size=16))
    findings = assess_depth(evidence, np.random.default_rng(0))
    nulls = flip_at_random(bright_corner, images, evidence, 16, np.random.default_rng(1))
    found = describe_classes(findings, nulls)
    assert found[1].reliance == 1.0
    assert found[1].redundancy == 1
    assert found[1].low > 0.8  # not 1: twenty pictures do not prove that
    assert (found[1].thin, found[1].n, found[1].n_correct) == (True, 20, 20)
    assert found[0].reliance == 0.0
    assert found[0].redundancy is None
    assert 0 <= nulls[1].low <= nulls[1].value <= nulls[1].high < 0.8
    assert (found[1].null, found[1].null_low, found[1].null_high) == (nulls[1].value, nulls[1].low, nulls[1].high)
    concept = describe_concepts(findings, "layer1", ("dark", "bright"))[found[1].concept]
    assert concept.class_name == concept.effect[0].class_name == "bright"
    assert (concept.effect[0].drop, concept.n_images) == (1.0, 20)
    assert 1 / SIDE <= concept.mask_share <= 0.5


def test_intervals_do_not_vanish_where_every_picture_turned() -> None:
    assert widen_interval(Share(1.0, 1.0, 1.0), 30) == (wilson(30, 30)[0], 1.0)
    assert widen_interval(Share(0.5, 0.3, 0.7), 30)[1] >= 0.7
    assert widen_interval(Share(0.0, float("nan"), float("nan")), 3) == wilson(0, 3)


def test_a_class_of_which_nothing_is_right_rests_on_nothing() -> None:
    images, labels = pictures()
    evidence = find_evidence(bright_corner, images, 1 - labels, SearchSettings(batch_size=16))
    findings = assess_depth(evidence, np.random.default_rng(0))
    found = describe_classes(findings, flip_at_random(bright_corner, images, evidence, 16, np.random.default_rng(1)))
    for label in (0, 1):
        assert (found[label].n_correct, found[label].reliance, found[label].redundancy) == (0, 0.0, 0)
        assert found[label].concept is None
        assert (found[label].null, found[label].null_high) == (0.0, wilson(0, 20)[1])


@pytest.fixture
def labels() -> np.ndarray:
    return np.repeat(np.arange(10), 200)


def test_a_cheap_network_is_examined_on_all_classes(labels: np.ndarray) -> None:
    sample = choose_sample(labels, np.full(10, np.nan), 1e-9, needed=False)
    assert sample.n_per_class == MOST_PER_CLASS
    assert np.bincount(labels[sample.rows]).tolist() == [MOST_PER_CLASS] * 10
    assert sample.n_classes_left_out == 0


def test_a_dear_network_on_the_most_fragile_classes(labels: np.ndarray) -> None:
    fragility = np.arange(10, 0, -1.0)
    fragility[9] = np.nan  # known of no picture: last
    work = 1 / (PASSES * 4.5 * LEAST_PER_CLASS)
    sample = choose_sample(labels, fragility, work, needed=False)
    assert np.unique(labels[sample.rows]).tolist() == [5, 6, 7, 8]
    assert (sample.n_per_class, sample.n_classes_left_out) == (LEAST_PER_CLASS, 6)


def test_classes_with_few_pictures_cost_no_more_than_they_have() -> None:
    few = np.repeat(np.arange(10), 8)
    sample = choose_sample(few, np.ones(10), 1 / (PASSES * 85), needed=False)
    assert np.bincount(few[sample.rows]).tolist() == [8] * 10
    uneven = np.repeat(np.arange(3), [5, 200, 200])
    sample = choose_sample(uneven, np.ones(3), 1 / (PASSES * 165.5), needed=False)
    assert np.bincount(uneven[sample.rows]).tolist() == [5, 80, 80]


def test_a_network_that_is_too_dear_is_examined_where_a_limit_asks_for_it(labels: np.ndarray) -> None:
    assert choose_sample(labels, np.ones(10), 1.0, needed=False) is None
    sample = choose_sample(labels, np.ones(10), 1.0, needed=True)
    assert np.bincount(labels[sample.rows]).tolist() == [LEAST_PER_CLASS] * 10


def test_a_class_that_rests_on_no_place_is_found_by_what_is_taken_out_whole() -> None:
    images, labels = pictures()
    evidence = find_evidence(bright_corner, images, labels, SearchSettings(batch_size=16))
    findings = assess_depth(evidence, np.random.default_rng(0))
    found, concepts = describe_classes(findings, {}), describe_concepts(findings, "layer1", ("dark", "bright"))
    turned = {"frame": labels.numpy() == 0, "overall colour": np.zeros(40, bool)}
    better, more = add_wholes(found, concepts, turned, labels.numpy(), ("dark", "bright"))
    assert better[1] == found[1]  # it loses no more without a whole
    assert better[0].reliance == 1.0
    assert better[0].low == wilson(20, 20)[0]
    assert (better[0].redundancy, better[0].redundancy_low, better[0].redundancy_high) == (1, 1, 1)
    assert set_nulls(better, {0: Share(0.5, 0.3, 0.7)})[0].null_high == 0.7
    assert set_nulls(better, {0: Share(0.5, 0.3, 0.7)})[1] == better[1]
    whole = more[better[0].concept]
    assert (whole.kind, whole.class_name, whole.index) == ("frame", "dark", len(concepts))
    assert more[: len(concepts)] == concepts
