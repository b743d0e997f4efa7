"""Pieces of evidence in an explanation: named after the audit's concepts, told in words and JSON."""

from __future__ import annotations

import numpy as np
import pytest

from salve_audit.explain.findings import Piece, Pieces
from salve_audit.explain.pieces import name_concepts
from salve_audit.explain.words import conclude_pieces, describe_piece, name_piece
from salve_audit.results import Concept

PIXELS = np.zeros((4, 4, 3), np.uint8)


def _concept(index: int, class_name: str, trait: tuple[float, ...]) -> Concept:
    return Concept(index, "layer1", class_name, (0,), 0.1, 5, (), trait=trait)


def _piece(predicted: str, own: float = 0.4) -> Piece:
    return Piece(3, 0.12, predicted, 0.5, own, PIXELS, PIXELS)


def test_a_piece_is_named_after_the_concept_of_its_class_that_it_is_most_alike() -> None:
    concepts = (
        _concept(0, "cat", (1.0, 0.0)),
        _concept(1, "cat", (0.0, 0.2)),
        _concept(2, "dog", (0.0, 1.0)),
    )
    traits = np.array([[0.1, 3.0], [5.0, 0.1], [4.0, 0.1]])
    assert name_concepts(traits, "cat", concepts, apart=False) == [1, 0, 0]
    assert name_concepts(traits[:2], "bird", concepts, apart=True) == [None, None]
    assert name_concepts(np.ones((1, 3)), "cat", concepts, apart=True) == [None]  # of another layer
    assert name_concepts(np.array([[np.nan, 0.1]]), "cat", concepts, apart=True) == [None]


def test_different_pieces_of_a_picture_have_different_names() -> None:
    concepts = (_concept(0, "cat", (1.0, 0.0)), _concept(1, "cat", (0.0, 1.0)))
    traits = np.array([[5.0, 1.0], [5.0, 1.5]])
    assert name_concepts(traits, "cat", concepts, apart=True) == [0, 1]
    assert name_concepts(traits, "cat", concepts, apart=False) == [0, 0]


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        (Pieces((), None), "No place was found in the picture that speaks for cat."),
        (Pieces((_piece("dog"),), 1), "One piece is enough: without it the prediction is no longer cat."),
        (Pieces((_piece("cat"), _piece("cat")), 2), "No single piece found decides it; 2 together do."),
        (Pieces((_piece("cat"),), None), "cat is still predicted with 1 piece taken out."),
    ],
)
def test_the_conclusion(pieces: Pieces, said: str) -> None:
    assert conclude_pieces(pieces, "cat") == said


def test_what_the_model_says_without_it() -> None:
    assert describe_piece(_piece("dog"), "cat").replace("\u00a0", " ") == "without it dog 50.0 %, cat 40.0 %"
    assert describe_piece(_piece("cat", 0.5), "cat").replace("\u00a0", " ") == "without it still cat 50.0 %"
    assert name_piece(_piece("cat"), 1) == "piece 1 (concept 3)"
