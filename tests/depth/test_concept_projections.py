"""The audit's part of concept edits: which concepts become projections, and why there may be none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

import salve_audit.depth.projections as tested
from salve_audit.depth.projections import NOT_FOLDABLE, project_concepts
from salve_audit.depth.ranks import RankTrials
from salve_audit.inputs.classifier import Classifier, TransformSpec
from salve_audit.inputs.heads import find_head
from salve_audit.reliance.depth import ClassFinding, ConceptFinding, DepthFindings, Evidence
from salve_audit.reliance.depth.assess import Share
from salve_audit.reliance.depth.projection import ConceptProjection
from salve_audit.spatial import find_spatial_layers
from salve_audit.spatial.blocks import first_block

N, SIDE = 6, 32  # pictures per class


def classifier_of(name: str, **kwargs: Any) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=3, **kwargs).eval().requires_grad_(False)
    reader = find_head(model, (3, SIDE, SIDE))
    spec = TransformSpec((3, SIDE, SIDE), (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0, "test")
    return Classifier(model, name, "test", Path("m.pt"), "", reader.name, spec, None, False, (), head_reader=reader)


def spotted() -> tuple[Tensor, Evidence]:
    """Two classes of noise with a spot of a colour of its own, which is each picture's one piece."""
    generator = torch.Generator().manual_seed(0)
    images, labels = 0.3 * torch.randn(2 * N, 3, SIDE, SIDE, generator=generator), torch.arange(2).repeat_interleave(N)
    regions = torch.zeros(2 * N, 1, SIDE, SIDE, dtype=torch.bool)
    for row, label in enumerate(labels.tolist()):
        top, left = torch.randint(2, SIDE - 12, (2,), generator=generator).tolist()
        regions[row, 0, top : top + 10, left : left + 10] = True
        images[row, label, top + 2 : top + 8, left + 2 : left + 8] += 3
    ones = torch.ones(2 * N)
    return images, Evidence(labels, ones, regions, -ones[:, None], -ones[:, None], torch.ones(2 * N, 1, 4), 0)


def findings(reliance: tuple[float, float]) -> DepthFindings:
    concepts = [
        ConceptFinding(k, (0,), np.ones(4), 0.1, np.arange(k * N, (k + 1) * N), np.zeros(N, int), {}) for k in (1, 0)
    ]
    classes = [
        ClassFinding(k, N, N, Share(reliance[k], 0.0, 1.0), 1 - k if reliance[k] else None, 1, 1, 1, False)
        for k in range(2)
    ]
    return DepthFindings(tuple(classes), tuple(concepts))


def project(name: str, reliance: tuple[float, float], **kwargs: Any) -> tuple[Any, Classifier, Tensor]:
    classifier, (images, evidence) = classifier_of(name, **kwargs), spotted()
    layer = first_block(classifier.model, find_spatial_layers(classifier, images))
    found = project_concepts(
        classifier, layer, evidence, findings(reliance), lambda rows: images[torch.from_numpy(rows)]
    )
    return found, classifier, images


def read_off(found: Any, index: int, positions: Tensor) -> Tensor:
    """How much of the concept each picture shows where it shows most."""
    readout = torch.from_numpy(found.projections[index].readout).float()
    return (positions @ readout.T).square().sum(2).amax(1)


def test_a_readout_sees_its_own_spot_and_not_the_other_classs() -> None:
    found, classifier, images = project("resnet10t", (1.0, 1.0))
    assert (found.layer, set(found.projections), found.why_absent) == ("layer1", {0, 1}, "")
    outputs: list[Tensor] = []
    with torch.no_grad(), classifier.model.layer1.register_forward_hook(lambda *given: outputs.append(given[2])):
        classifier.model(images)
    positions = outputs[0].flatten(2).transpose(1, 2)
    for index, label in ((0, 1), (1, 0)):
        read = read_off(found, index, positions).reshape(2, N)
        assert float(read[label].median()) > 10 * float(read[1 - label].median())
        left = positions - found.projections[index].part(positions)
        assert float(read_off(found, index, left).max()) < 1e-6 * float(read.max()), "nothing is left to read"


def test_classes_that_rest_on_most_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tested, "MOST_CLASSES", 1)
    found, _, _ = project("resnet10t", (0.4, 0.9))
    assert set(found.projections) == {0}, "the concept of class 1"


def test_without_a_place_that_matters_there_is_nothing_to_fit() -> None:
    found, _, _ = project("resnet10t", (0.0, 0.0))
    assert not found.projections
    assert "no place" in found.why_absent


def test_a_transformer_says_why_it_has_none() -> None:
    found, _, _ = project("vit_tiny_patch16_224", (1.0, 1.0), img_size=SIDE, patch_size=8, depth=2)
    assert (found.layer, dict(found.projections), found.why_absent) == ("", {}, NOT_FOLDABLE)
    assert "transformers" in found.why_absent


def test_a_concept_without_a_trace_has_none() -> None:
    classifier, (images, evidence) = classifier_of("resnet10t"), spotted()
    layer = first_block(classifier.model, find_spatial_layers(classifier, images))
    bare = Evidence(**{**vars(evidence), "regions": torch.zeros_like(evidence.regions)})
    found = project_concepts(classifier, layer, bare, findings((1.0, 1.0)), lambda rows: images[torch.from_numpy(rows)])
    assert not found.projections
    assert "leaves a trace at its layer layer1" in found.why_absent


class Told(RankTrials):
    """Trials whose outcome is given: by rank, the share of own and of other pictures that turn wrong."""

    outcomes: ClassVar[dict[int, tuple[float, float]]] = {}

    def _turn(self, projection: ConceptProjection, rows: np.ndarray) -> np.ndarray:
        share = self.outcomes[projection.rank][0 if rows[0] < N else 1]
        return np.arange(len(rows)) < round(share * len(rows))


@pytest.mark.parametrize(
    ("outcomes", "rank"),
    [
        ({1: (1.0, 0.0)}, 1),  # enough: no other is tried
        ({1: (0.0, 0.0), 2: (1.0, 0.0)}, 2),
        ({1: (0.5, 0.0), 2: (1.0, 0.5)}, 1),  # more would cost more than it brings
        ({1: (0.0, 0.0), 2: (0.0, 0.0), 4: (0.5, 0.0)}, 4),  # 4 directions are all there are
    ],
)
def test_the_rank_does_what_is_asked_at_least_cost(outcomes: dict[int, tuple[float, float]], rank: int) -> None:
    _, evidence = spotted()
    trials = Told(None, None, None, evidence, None)  # type: ignore[arg-type]  # nothing is run
    Told.outcomes = outcomes
    concept = findings((1.0, 1.0)).concepts[1]  # of class 0, whose pictures come first
    made = trials.choose(concept, lambda n: ConceptProjection(np.eye(8)[: min(n, 4)], np.eye(8)[: min(n, 4)]))
    assert made is not None
    assert made.rank == rank
