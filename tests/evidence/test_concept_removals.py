"""Removals of projected concepts inside the network: on known cues, and from end to end on networks of every family."""

from __future__ import annotations

import zlib
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import salve_audit.evidence.removals as tested
from salve_audit.evidence.findings import EvidenceFindings, assess_evidence
from salve_audit.evidence.probe import watch_network
from salve_audit.evidence.projection import ConceptProjection
from salve_audit.evidence.removals import N_RANDOM, ExaminedNetwork, RemovalOutcome, remove_projected
from salve_audit.evidence.search import Evidence, SearchSettings, find_evidence
from salve_audit.evidence.suppression import TRIES, RemovalSettings, plan_removals
from salve_audit.spatial.layers import SpatialLayer, find_spatial_layers
from salve_audit.spatial.layout import GridLayout

LAYER = SpatialLayer("layer", GridLayout("channels-first", 8, 8, 3), 1)
CLASSES = ("a", "b", "c", "d")
OWN, OTHER = (ConceptProjection(np.eye(3)[[channel]], np.eye(3)[[channel]]) for channel in (2, 0))  # class 1 shows by 2

Known = tuple[ExaminedNetwork, Evidence, EvidenceFindings, int]


def rng_for(purpose: str) -> np.random.Generator:
    return np.random.default_rng([6, zlib.crc32(purpose.encode())])


def examine(classifier: Any, layer: SpatialLayer, images: Tensor) -> ExaminedNetwork:
    return ExaminedNetwork(classifier, None, layer, lambda rows: images[torch.from_numpy(rows)], CLASSES)


@pytest.fixture
def known(cues: Any, cue_images: Any) -> Known:
    """The cue network, its evidence, and the index of the concept that class 1 depends on."""
    images, labels = cue_images(30, np.random.default_rng(0))
    with watch_network(cues, LAYER) as probe:
        evidence = find_evidence(probe, images, labels, SearchSettings())
    findings = assess_evidence(evidence, np.random.default_rng(0))
    (finding,) = (finding for finding in findings.classes if finding.label == 1)
    assert finding.reliance.value == 1.0
    assert finding.concept is not None
    return examine(cues, LAYER, images), evidence, findings, finding.concept


def remove(known: Known, projection: ConceptProjection, monkeypatch: pytest.MonkeyPatch, **kwargs: Any) -> Any:
    """The outcome of removing the projection as the concept of class 1, under other settings."""
    network, evidence, findings, index = known
    monkeypatch.setattr(tested, "RemovalSettings", partial(RemovalSettings, **kwargs))
    return remove_projected(network, {index: projection}, evidence, findings, rng_for)


def test_a_cue_is_removed_by_its_projection_and_costs_no_other_class(known: Known) -> None:
    network, evidence, findings, index = known
    outcome = remove_projected(network, {index: OWN}, evidence, findings, rng_for)
    assert list(outcome.removals) == [index]
    record = outcome.removals[index]
    assert not outcome.why_absent
    assert (record.layer, record.rank, record.drop) == ("layer", 1, 1.0)
    assert record.low > 0.6  # of 8 images or more
    assert record.strength == pytest.approx(0.75, abs=0.08)
    assert [(effect.class_name, effect.drop) for effect in record.effect] == [("b", 1.0), ("a", 0.0), ("c", 0.0)]
    assert (record.others, record.others_low) == (0.0, 0.0)
    assert record.others_high is not None
    assert 0 < record.others_high < 0.5
    assert remove_projected(network, {index: OWN}, evidence, findings, rng_for) == outcome


def test_a_projection_of_something_else_flips_nothing(known: Known) -> None:
    network, evidence, findings, index = known
    outcome = remove_projected(network, {index: OTHER}, evidence, findings, rng_for)
    record = outcome.removals[index]
    assert (record.drop, record.strength, record.others) == (0.0, None, 0.0)


def test_chance_is_what_random_directions_do(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    """Direction j acts on every fifth image from the j-th; what each does to class 1 is known."""
    record = remove(known, OWN, monkeypatch, budget=10.0).removals[known[3]]
    rng = rng_for(f"removal of {known[3]} at layer")
    drawn = [np.linalg.qr(rng.standard_normal((3, 1)))[0][:, 0] for _ in range(N_RANDOM)]
    margins = np.array([4 * (1 - u[2] ** 2) - max(1, -4 * u[2] * u[0], -4 * u[2] * u[1]) for u in drawn])
    assert (np.abs(margins) > 0.15).all(), "noise decides none of them"
    assert record.n == 30
    assert record.chance == pytest.approx(np.mean([margins[i % N_RANDOM] <= 0 for i in range(record.n)]))
    assert 0 < record.chance < 1


def test_the_budget_bounds_what_is_spent(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    _, evidence, findings, index = known
    small = remove(known, OWN, monkeypatch, budget=1e-9, least=6)
    large = remove(known, OWN, monkeypatch, budget=10.0)
    assert small.n_passes < large.n_passes
    assert (small.removals[index].n, large.removals[index].n) == (6, 30)
    half = remove(known, OWN, monkeypatch, budget=0.15)
    n_own, n_others = half.removals[index].n, len(plan_removals(evidence, findings, RemovalSettings(0.15)).others)
    assert 6 < n_own < 30
    assert half.n_passes <= (TRIES + 1) * n_own + 2 * n_others
    assert half.n_passes <= 0.16 * evidence.n_passes


def test_a_layer_that_fails_is_named_with_its_cause(known: Known) -> None:
    network, evidence, findings, index = known
    unused = ExaminedNetwork(network.classifier, None, SpatialLayer("unused", LAYER.layout, 2), network.load, CLASSES)
    outcome = remove_projected(unused, {index: OWN}, evidence, findings, rng_for)
    assert isinstance(outcome, RemovalOutcome)
    assert not outcome.removals
    assert outcome.why_absent.startswith("unused: ")
    assert "'unused' is not used in a forward pass" in outcome.why_absent


def decisive_squares(labels: Tensor, rng: np.random.Generator) -> Evidence:
    """Evidence by which a square decides every image."""
    n = len(labels)
    regions = torch.zeros(n, 3, 32, 32, dtype=torch.bool)
    regions[:, 0, 8:20, 8:20] = True
    margin = torch.full((n, 3), torch.nan)
    margin[:, 0] = -1.0
    signatures = torch.full((n, 3, 4), torch.nan)
    signatures[:, 0] = torch.from_numpy(rng.standard_normal((n, 4))).float()
    return Evidence(labels, torch.ones(n), regions, margin, margin, signatures, regions[:, 0].float(), 20 * n)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("resnet10t", "layer3"),
        ("convnext_atto", "stages.0"),
        ("tinynet_e", "blocks.1"),
        ("vit_tiny_patch16_224", "blocks.0"),
        ("swin_tiny_patch4_window7_224", "layers.0"),
    ],
)
def test_every_family_goes_from_end_to_end(family: Any, name: str, module: str) -> None:
    classifier = family(name)
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        labels = classifier.model(images).argmax(1)  # correct by definition
    layer = next(layer for layer in find_spatial_layers(classifier, images) if layer.name == module)
    rng = np.random.default_rng(0)
    evidence = decisive_squares(labels, rng)
    findings = assess_evidence(evidence, rng)
    d, indices = layer.layout.channels, [finding.concept for finding in findings.classes]
    assert None not in indices
    drawn = {index: np.linalg.qr(rng.standard_normal((d, 2)))[0].T for index in indices}
    projections = {index: ConceptProjection(rows, rows) for index, rows in drawn.items()}
    outcome = remove_projected(examine(classifier, layer, images), projections, evidence, findings, rng_for)
    assert not outcome.why_absent
    assert set(outcome.removals) == set(indices)
    for index, record in outcome.removals.items():
        assert (record.layer, record.rank) == (module, 2)
        assert record.low <= record.drop <= record.high
        assert 0 <= record.chance <= 1
        if len(indices) == 1:
            assert (record.others, record.others_low, record.others_high) == (None, None, None)
        else:
            assert record.others_low <= record.others <= record.others_high
        assert record.effect[0].class_name == CLASSES[findings.concepts[index].label]
        assert len({effect.class_name for effect in record.effect}) == len(set(labels.tolist())) == len(record.effect)
    assert outcome.n_passes > 0
