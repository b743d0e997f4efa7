"""The audit's part about latents: on known cues, and from end to end on networks of every family."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from salve_audit.depth.at_layer import ExaminedNetwork
from salve_audit.depth.removals import RemovalSettings, remove_concepts, remove_projected
from salve_audit.reliance.depth import Evidence, SearchSettings, assess_depth, find_evidence, watch_network
from salve_audit.reliance.depth.latents.plan import plan_removals
from salve_audit.reliance.depth.projection import ConceptProjection
from salve_audit.spatial import GridLayout, SpatialLayer, find_spatial_layers

LAYER = SpatialLayer("layer", GridLayout("channels-first", 8, 8, 3), 1)
CLASSES = ("a", "b", "c", "d")


def rng_for(purpose: str) -> np.random.Generator:
    return np.random.default_rng([5, zlib.crc32(purpose.encode())])


def examine(classifier: Any, layers: tuple[SpatialLayer, ...], images: Tensor, labels: Tensor) -> Any:
    network = ExaminedNetwork(classifier, None, layers, lambda rows: images[torch.from_numpy(rows)], CLASSES)
    with watch_network(classifier, layers[0]) as probe:
        evidence = find_evidence(probe, images, labels, SearchSettings())
    return network, evidence, assess_depth(evidence, np.random.default_rng(0))


@pytest.fixture
def known(cues: Any, cue_pictures: Any) -> Any:
    images, labels = cue_pictures(30, np.random.default_rng(0))
    return examine(cues, (LAYER,), images, labels)


def test_a_cue_is_removed_by_its_latents_and_costs_no_other_class(known: Any) -> None:
    network, evidence, findings = known
    by_label = {one.label: one for one in findings.classes}
    assert by_label[1].reliance.value == 1.0
    settings = RemovalSettings(budget=10.0, n_latents=6, n_active=1, n_steps=150)
    outcome = remove_concepts(network, evidence, findings, rng_for, settings)
    (record,) = outcome.removals[by_label[1].concept]
    assert not outcome.absent
    assert (record.layer, record.n_latents, record.n) == ("layer", 6, 30)
    assert record.latents
    assert record.drop == 1.0
    assert record.low > 0.85
    assert record.strength == pytest.approx(0.75, abs=0.08)
    assert [(one.class_name, one.drop) for one in record.effect] == [("b", 1.0), ("a", 0.0), ("c", 0.0)]
    assert record.others == 0.0
    assert record.others_high < 0.15
    assert record.null < 0.7, "the latents of the cue are few among the random ones"
    again = remove_concepts(network, evidence, findings, rng_for, settings)
    assert again == outcome


def test_a_projection_is_measured_as_the_latents_are(known: Any) -> None:
    network, evidence, findings = known
    (index,) = (one.concept for one in findings.classes if one.label == 1)
    own, other = np.eye(3)[[2]], np.eye(3)[[0]]  # class 1 shows by channel 2 alone
    outcome = remove_projected(network, {index: ConceptProjection(own, own)}, evidence, findings, rng_for)
    ((record,),) = outcome.removals.values()
    assert not outcome.absent
    assert (record.layer, record.rank, record.latents) == ("layer", 1, ())
    assert record.drop == 1.0
    assert record.strength == pytest.approx(0.75, abs=0.08)
    assert {one.class_name: one.drop for one in record.effect} == {"b": 1.0, "a": 0.0, "c": 0.0}
    assert record.null < 1.0
    nothing = remove_projected(network, {index: ConceptProjection(other, other)}, evidence, findings, rng_for)
    assert [(one.drop, one.strength) for one in nothing.removals[index]] == [(0.0, None)]


def test_the_budget_bounds_what_is_spent(known: Any) -> None:
    network, evidence, findings = known
    least = RemovalSettings(budget=1e-9, n_latents=6, n_active=1, n_steps=150, least=6)
    small = remove_concepts(network, evidence, findings, rng_for, least)
    large = remove_concepts(
        network, evidence, findings, rng_for, RemovalSettings(10.0, n_latents=6, n_active=1, n_steps=150)
    )
    assert small.n_passes < large.n_passes
    assert all(record.n == 6 for records in small.removals.values() for record in records)
    plan = plan_removals(evidence, findings, RemovalSettings(budget=0.5))
    assert all(not set(one.own) & set(one.chosen) or len(one.own) > 20 for one in plan.targets)
    half = remove_concepts(
        network, evidence, findings, rng_for, RemovalSettings(budget=0.5, n_latents=6, n_active=1, n_steps=150)
    )
    assert half.n_passes <= 0.6 * evidence.n_passes


def test_a_layer_that_fails_is_named_with_its_cause(known: Any) -> None:
    network, evidence, findings = known
    layers = (LAYER, SpatialLayer("unused", LAYER.layout, 2))
    network = ExaminedNetwork(network.classifier, None, layers, network.load, CLASSES)
    outcome = remove_concepts(
        network, evidence, findings, rng_for, RemovalSettings(n_latents=6, n_active=1, n_steps=150)
    )
    assert list(outcome.absent) == ["unused"]
    assert "'unused' is not used in a forward pass" in outcome.absent["unused"]
    assert all(len(records) == 1 for records in outcome.removals.values())


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("resnet10t", "layer1 layer3"),  # every layer asked for has a record of its own
        ("convnext_atto", "stages.0"),
        ("tinynet_e", "blocks.1"),
        ("vit_tiny_patch16_224", "blocks.0"),
        ("swin_tiny_patch4_window7_224", "layers.0"),
    ],
)
def test_every_family_goes_from_end_to_end(family: Any, name: str, modules: str) -> None:
    classifier = family(name)
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        labels = classifier.model(images).argmax(1)  # right by definition
    layers = tuple(one for one in find_spatial_layers(classifier, images) if one.name in modules.split())
    n = len(images)
    rng = np.random.default_rng(0)
    regions = torch.zeros(n, 3, 32, 32, dtype=torch.bool)
    regions[:, 0, 8:20, 8:20] = True
    margin = torch.full((n, 3), torch.nan)
    margin[:, 0] = -1.0
    traits = torch.full((n, 3, 4), torch.nan)
    traits[:, 0] = torch.from_numpy(rng.standard_normal((n, 4))).float()
    evidence = Evidence(labels, torch.ones(n), regions, margin, margin, traits, 20 * n)
    findings = assess_depth(evidence, rng)
    network = ExaminedNetwork(classifier, None, layers, lambda rows: images[torch.from_numpy(rows)], CLASSES)
    outcome = remove_concepts(
        network, evidence, findings, rng_for, RemovalSettings(n_latents=16, n_active=4, n_steps=50)
    )
    assert not outcome.absent
    assert set(outcome.removals) == {one.concept for one in findings.classes}
    for records in outcome.removals.values():
        assert [record.layer for record in records] == modules.split()
        for record in records:
            assert record.low <= record.drop <= record.high
            assert 0 <= record.null <= 1
            assert len(record.latents) <= 8
            assert len({one.class_name for one in record.effect}) == len(set(labels.tolist()))
