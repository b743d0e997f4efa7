"""The audit's part of concept edits: which concepts become projections, and why there may be none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

import salve_audit.evidence.projection_fitting as tested
from salve_audit.evidence.findings import ClassFinding, ConceptFinding, EvidenceFindings, Share
from salve_audit.evidence.projection import ConceptProjection
from salve_audit.evidence.projection_fitting import NOT_FOLDABLE, RankTrials, project_concepts
from salve_audit.evidence.search import Evidence
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.search import find_head
from salve_audit.results.transform import TransformSpec
from salve_audit.spatial.blocks import first_block
from salve_audit.spatial.layers import find_spatial_layers

N, SIDE = 6, 32  # images per class


def classifier_of(name: str, **kwargs: Any) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=3, **kwargs).eval().requires_grad_(False)
    reader = find_head(model, (3, SIDE, SIDE))
    spec = TransformSpec((3, SIDE, SIDE), (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0, "test")
    return Classifier(model, name, "test", Path("m.pt"), "", reader.name, spec, None, False, (), head_reader=reader)


def spotted() -> tuple[Tensor, Evidence]:
    """Two classes of noise with a spot of a colour of its own, which is each image's only evidence region."""
    generator = torch.Generator().manual_seed(0)
    images, labels = 0.3 * torch.randn(2 * N, 3, SIDE, SIDE, generator=generator), torch.arange(2).repeat_interleave(N)
    regions = torch.zeros(2 * N, 1, SIDE, SIDE, dtype=torch.bool)
    for row, label in enumerate(labels.tolist()):
        top, left = torch.randint(2, SIDE - 12, (2,), generator=generator).tolist()
        regions[row, 0, top : top + 10, left : left + 10] = True
        images[row, label, top + 2 : top + 8, left + 2 : left + 8] += 3
    ones = torch.ones(2 * N)
    signatures, heat = torch.ones(2 * N, 1, 4), regions[:, 0].float()
    return images, Evidence(labels, ones, regions, -ones[:, None], -ones[:, None], signatures, heat, 0)


def findings(reliance: tuple[float, float]) -> EvidenceFindings:
    concepts = [
        ConceptFinding(k, (0,), np.ones(4), 0.1, np.arange(k * N, (k + 1) * N), np.zeros(N, int), {}) for k in (1, 0)
    ]
    classes = [
        ClassFinding(k, N, N, Share(reliance[k], 0.0, 1.0), 1 - k if reliance[k] else None, 1, 1, 1, False)
        for k in range(2)
    ]
    return EvidenceFindings(tuple(classes), tuple(concepts))


def project(name: str, reliance: tuple[float, float], **kwargs: Any) -> tuple[Any, Classifier, Tensor]:
    classifier, (images, evidence) = classifier_of(name, **kwargs), spotted()
    layer = first_block(classifier.model, find_spatial_layers(classifier, images))
    fitted = project_concepts(
        classifier, layer, evidence, findings(reliance), lambda rows: images[torch.from_numpy(rows)]
    )
    return fitted, classifier, images


def read_off(fitted: Any, index: int, positions: Tensor) -> Tensor:
    """How much of the concept each image shows where it shows most."""
    readout = torch.from_numpy(fitted.projections[index].readout).float()
    return (positions @ readout.T).square().sum(2).amax(1)


def test_a_readout_sees_its_own_spot_and_not_the_other_classs() -> None:
    fitted, classifier, images = project("resnet10t", (1.0, 1.0))
    assert (fitted.layer, set(fitted.projections), fitted.why_absent) == ("layer1", {0, 1}, "")
    outputs: list[Tensor] = []
    with torch.no_grad(), classifier.model.layer1.register_forward_hook(lambda *given: outputs.append(given[2])):
        classifier.model(images)
    positions = outputs[0].flatten(2).transpose(1, 2)
    for index, label in ((0, 1), (1, 0)):
        read = read_off(fitted, index, positions).reshape(2, N)
        assert float(read[label].median()) > 10 * float(read[1 - label].median())
        left = positions - fitted.projections[index].part(positions)
        assert float(read_off(fitted, index, left).max()) < 1e-6 * float(read.max()), "nothing is left to read"


def test_concepts_of_the_most_dependent_classes_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tested, "MOST_CLASSES", 1)
    fitted, _, _ = project("resnet10t", (0.4, 0.9))
    assert set(fitted.projections) == {0}, "the concept of class 1"


def test_without_a_region_that_matters_there_is_nothing_to_fit() -> None:
    fitted, _, _ = project("resnet10t", (0.0, 0.0))
    assert not fitted.projections
    assert "no evidence region" in fitted.why_absent


def test_a_transformer_says_why_it_has_none() -> None:
    fitted, _, _ = project("vit_tiny_patch16_224", (1.0, 1.0), img_size=SIDE, patch_size=8, depth=2)
    assert (fitted.layer, dict(fitted.projections), fitted.why_absent) == ("", {}, NOT_FOLDABLE)
    assert "transformers" in fitted.why_absent


def test_a_concept_without_a_trace_has_none() -> None:
    classifier, (images, evidence) = classifier_of("resnet10t"), spotted()
    layer = first_block(classifier.model, find_spatial_layers(classifier, images))
    bare = Evidence(**{**vars(evidence), "regions": torch.zeros_like(evidence.regions)})
    fitted = project_concepts(
        classifier, layer, bare, findings((1.0, 1.0)), lambda rows: images[torch.from_numpy(rows)]
    )
    assert not fitted.projections
    assert "leaves a trace at its layer layer1" in fitted.why_absent


class KnownTrials(RankTrials):
    """Trials whose outcome is given: by rank, the share of own and of other images that are misclassified."""

    outcomes: ClassVar[dict[int, tuple[float, float]]] = {}

    def _misclassify(self, projection: ConceptProjection, rows: np.ndarray) -> np.ndarray:
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
def test_the_rank_nearest_to_the_regions_at_least_cost_is_chosen(
    outcomes: dict[int, tuple[float, float]], rank: int
) -> None:
    _, evidence = spotted()
    trials = KnownTrials(None, None, None, evidence, None)  # type: ignore[arg-type]  # nothing is run
    KnownTrials.outcomes = outcomes
    concept = findings((1.0, 1.0)).concepts[1]  # of class 0, whose images come first
    chosen = trials.choose(concept, lambda n: ConceptProjection(np.eye(8)[: min(n, 4)], np.eye(8)[: min(n, 4)]))
    assert chosen is not None
    assert chosen.rank == rank


def test_ranks_are_tried_on_few_images_of_the_concept_and_of_other_classes() -> None:
    n = 40  # images of each class, more than are tried
    labels, ones = torch.arange(2).repeat_interleave(n), torch.ones(2 * n)
    regions = torch.ones(2 * n, 1, 2, 2, dtype=torch.bool)
    signatures, heat = torch.ones(2 * n, 1, 4), regions[:, 0].float()
    evidence = Evidence(labels, ones, regions, -ones[:, None], -ones[:, None], signatures, heat, 0)
    tried: list[np.ndarray] = []

    class RecordedTrials(RankTrials):
        def _misclassify(self, projection: ConceptProjection, rows: np.ndarray) -> np.ndarray:
            tried.append(labels.numpy()[rows])
            return labels.numpy()[rows] == 0

    trials = RecordedTrials(None, None, None, evidence, None)  # type: ignore[arg-type]  # nothing is run
    concept = ConceptFinding(0, (0,), np.ones(4), 0.1, np.arange(n), np.zeros(n, int), {})
    trials.choose(concept, lambda rank: ConceptProjection(np.eye(8)[:rank], np.eye(8)[:rank]))
    assert [np.bincount(batch, minlength=2).tolist() for batch in tried] == [[16, 0], [0, 28]]
