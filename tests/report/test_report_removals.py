"""Concepts removed inside the network, in the report: what their projections carry, and which classes it costs."""

from __future__ import annotations

import dataclasses

from salve_audit.report.view.removals import build_removals, conclude_removals
from salve_audit.results import Concept, ConceptEffect, ConceptRemoval

OWN = ConceptEffect("church", 0.8, 0.7, 0.9)


def concept(drop: float, others: float | None = 0.02, index: int = 4) -> Concept:
    effect = (ConceptEffect("church", drop, drop, drop), ConceptEffect("tower", 0.3, 0.2, 0.4))
    bounds = (None, None) if others is None else (others - 0.01, others + 0.01)
    removal = ConceptRemoval("layer1", 25, drop, drop - 0.1, drop + 0.1, 0.62, effect, others, *bounds, 0.04, 2)
    return Concept(index, "layer1", "church", (1,), 0.1, 30, (OWN,), removal=removal)


def test_a_row_compares_the_projection_with_the_image() -> None:
    table = build_removals([concept(0.72)], 10)
    assert table is not None
    cells = [cell.text.replace("\u00a0", " ") for cell in table.rows[0]]
    assert cells == [
        "4",
        "church",
        "layer1",
        "2",
        "80.0 %",
        "72.0 % (62.0–82.0)",
        "4.0 %",
        "0.620",
        "−2.0 (−3.0 to −1.0)",
        "tower −30.0",
    ]


def test_classes_that_lose_most_come_first() -> None:
    table = build_removals([concept(0.2, index=1), concept(0.9, index=2)], 10)
    assert table is not None
    assert [row[0].text for row in table.rows] == ["2", "1"]


def test_what_is_concluded() -> None:
    most, costly, little = concept(0.72), concept(0.7, others=0.4, index=5), concept(0.2, index=6)
    said = "a projection without which about as much is lost as without the evidence regions"
    spared = "of them at no more than 10 points of the other classes' accuracy on average."
    assert conclude_removals([most, costly, little]) == f"Of 3 concepts, 2 have {said}, 1 {spared}"
    alone = concept(0.72, others=None)
    assert conclude_removals([alone]) == f"Of 1 concept, 1 has {said}, 1 {spared}"
    slight = dataclasses.replace(most, effect=(ConceptEffect("church", 0.1, 0.05, 0.2),))
    assert conclude_removals([slight]) == f"Of 1 concept, 0 have {said}.", "much more is lost than without the region"
    assert most.removal is not None
    by_chance = dataclasses.replace(most.removal, chance=0.7)
    assert "0 have a projection" in conclude_removals([dataclasses.replace(most, removal=by_chance)])


def test_nothing_tried_is_nothing_shown() -> None:
    bare = dataclasses.replace(concept(0.5), removal=None)
    assert build_removals([bare], 10) is None
    assert conclude_removals([bare]) == ""
