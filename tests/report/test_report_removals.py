"""Concepts taken out inside of the network, in the report: what their latents carry, and whom it costs."""

from __future__ import annotations

import dataclasses

from salve_audit.report.view.removals import build_removals, conclude_removals
from salve_audit.results import Concept, ConceptEffect, ConceptRemoval

OWN = ConceptEffect("church", 0.8, 0.7, 0.9)


def concept(drop: float, others: float | None = 0.02, latents: tuple[int, ...] = (7, 3), index: int = 4) -> Concept:
    effect = (ConceptEffect("church", drop, drop, drop), ConceptEffect("tower", 0.3, 0.2, 0.4))
    bounds = (None, None) if others is None else (others - 0.01, others + 0.01)
    removal = ConceptRemoval(
        "layer1", latents, 128, 25, drop, drop - 0.1, drop + 0.1, 0.62, effect, others, *bounds, 0.04
    )
    return Concept(index, "layer1", "church", (1,), 0.1, 30, (OWN,), removals=(removal,))


def test_a_row_sets_the_latents_beside_the_picture() -> None:
    table = build_removals([concept(0.72)], 10)
    assert table is not None
    cells = [cell.text.replace("\u00a0", " ") for cell in table.rows[0]]
    assert cells == [
        "4",
        "church",
        "layer1",
        "2 of 128 latents",
        "80.0 %",
        "72.0 % (62.0–82.0)",
        "4.0 %",
        "0.620",
        "−2.0 (−3.0 to −1.0)",
        "tower −30.0",
    ]


def test_without_latents_nothing_is_claimed() -> None:
    table = build_removals([concept(0.0, latents=())], 10)
    assert table is not None
    assert [cell.text for cell in table.rows[0]][3] == "0 of 128 latents"
    assert len({cell.mark for cell in table.rows[0][5:]}) == 1
    assert table.rows[0][5].mark
    assert conclude_removals([concept(0.0, latents=())]) == (
        "Of 1 concept, 0 have latents without which about as much is lost as without the pieces."
    )


def test_what_is_concluded() -> None:
    most, costly, little = concept(0.72), concept(0.7, others=0.4, index=5), concept(0.2, index=6)
    said = "without which about as much is lost as without the pieces"
    spared = "of them at no more than 10 points of the other classes' accuracy on average."
    assert conclude_removals([most, costly, little]) == f"Of 3 concepts, 2 have latents {said}, 1 {spared}"
    alone = concept(0.72, others=None)
    assert conclude_removals([alone]) == f"Of 1 concept, 1 has latents {said}, 1 {spared}"
    slight = dataclasses.replace(most, effect=(ConceptEffect("church", 0.1, 0.05, 0.2),))
    assert "0 have latents" in conclude_removals([slight]), "much more is lost without the latents than without it"
    by_chance = dataclasses.replace(most.removals[0], null=0.7)
    assert "0 have latents" in conclude_removals([dataclasses.replace(most, removals=(by_chance,))])


def test_projections_are_told_from_latents() -> None:
    both = concept(0.72)
    projected = dataclasses.replace(both.removals[0], latents=(), n_latents=0, rank=2, drop=0.78)
    both = dataclasses.replace(both, removals=(*both.removals, projected))
    table = build_removals([both], 10)
    assert table is not None
    assert [row[3].text for row in table.rows] == ["2 directions", "2 of 128 latents"]
    first, second = conclude_removals([both]).split(". ")
    assert first.startswith("Of 1 concept, 1 has latents")
    assert second.startswith("Of 1 concept, 1 has a projection")


def test_nothing_tried_is_nothing_shown() -> None:
    bare = dataclasses.replace(concept(0.5), removals=())
    assert build_removals([bare], 10) is None
    assert conclude_removals([bare]) == ""
