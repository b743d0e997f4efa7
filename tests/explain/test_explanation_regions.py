"""Evidence regions in an explanation: named after the audit's concepts, told in words and JSON."""

from __future__ import annotations

import numpy as np
import pytest

from salve_audit.explain.findings import ExplainedRegion, ExplainedRegions
from salve_audit.explain.regions import name_concepts
from salve_audit.explain.words import conclude_regions, describe_region, name_region
from salve_audit.results import Concept

PIXELS = np.zeros((4, 4, 3), np.uint8)


def _concept(index: int, class_name: str, signature: tuple[float, ...]) -> Concept:
    return Concept(index, "layer1", class_name, (0,), 0.1, 5, (), signature=signature)


def _region(predicted: str, own: float = 0.4) -> ExplainedRegion:
    return ExplainedRegion(3, 0.12, predicted, 0.5, own, PIXELS, PIXELS)


def test_a_region_is_named_after_the_concept_of_its_class_that_it_is_most_alike() -> None:
    concepts = (
        _concept(0, "cat", (1.0, 0.0)),
        _concept(1, "cat", (0.0, 0.2)),
        _concept(2, "dog", (0.0, 1.0)),
    )
    signatures = np.array([[0.1, 3.0], [5.0, 0.1], [4.0, 0.1]])
    assert name_concepts(signatures, "cat", concepts, apart=False) == [1, 0, 0]
    assert name_concepts(signatures[:2], "bird", concepts, apart=True) == [None, None]
    assert name_concepts(np.ones((1, 3)), "cat", concepts, apart=True) == [None]  # of another layer
    assert name_concepts(np.array([[np.nan, 0.1]]), "cat", concepts, apart=True) == [None]


def test_different_regions_of_an_image_have_different_names() -> None:
    concepts = (_concept(0, "cat", (1.0, 0.0)), _concept(1, "cat", (0.0, 1.0)))
    signatures = np.array([[5.0, 1.0], [5.0, 1.5]])
    assert name_concepts(signatures, "cat", concepts, apart=True) == [0, 1]
    assert name_concepts(signatures, "cat", concepts, apart=False) == [0, 0]


@pytest.mark.parametrize(
    ("regions", "said"),
    [
        (ExplainedRegions((), None), "No evidence region for cat was found in the image."),
        (ExplainedRegions((_region("dog"),), 1), "One region is enough: without it the prediction is no longer cat."),
        (ExplainedRegions((_region("cat"), _region("cat")), 2), "No single region decides it; 2 together do."),
        (ExplainedRegions((_region("cat"),), None), "cat is still predicted with 1 region removed."),
    ],
)
def test_the_conclusion(regions: ExplainedRegions, said: str) -> None:
    assert conclude_regions(regions, "cat") == said


def test_what_the_model_says_without_it() -> None:
    assert describe_region(_region("dog"), "cat").replace("\u00a0", " ") == "without it dog 50.0 %, cat 40.0 %"
    assert describe_region(_region("cat", 0.5), "cat").replace("\u00a0", " ") == "without it still cat 50.0 %"
    assert name_region(_region("cat"), 1) == "region 1 (concept 3)"
