"""The review file written, merged and read again, and concepts found again by their look."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from gate_audits import sample

from salve_audit.gate.review import Entry, Review, load_review, match, match_among
from salve_audit.gate.review_file import merge_entries, render_review, write_review
from salve_audit.results import Concept
from salve_audit.results.looks import (
    ConceptLook,
    decode_places,
    decode_values,
    encode_places,
    encode_values,
    is_same_look,
    look_distance,
    place_overlap,
)
from salve_audit.results.reviewable import REGION, entry_head, fingerprint, list_reviewable

LOOK = ConceptLook(encode_values([0.5, -0.5, 0.1, 1.0]), encode_places({f"{i:08x}": (4, 4, 20, 20) for i in range(6)}))


def shifted(by: float, box: tuple[int, int, int, int] = (4, 4, 20, 20), first: int = 0) -> ConceptLook:
    values = encode_values([value + by for value in decode_values(LOOK.values)])
    return ConceptLook(values, encode_places({f"{i:08x}": box for i in range(first, first + 6)}))


def region(index: int = 0) -> Concept:
    return [concept for concept in sample().concepts if concept.kind == REGION][index]


def entry(concept: Concept, look: ConceptLook = LOOK, **changes: object) -> Entry:
    plain = Entry(
        concept.class_name, concept.kind, "0" * 8, 'a "tag"\n\u202e', "shortcut", "Zoë 🙂\x7f", "2026-11-20", ""
    )
    return dataclasses.replace(plain, look=look.values, places=look.places, **changes)  # type: ignore[arg-type]


def test_values_and_places_survive_their_text() -> None:
    assert decode_values(encode_values([-2.0, 0.0, 0.25, 2.0])) == pytest.approx((-1.0, 0.0, 0.25, 1.0), abs=1 / 254)
    assert decode_values("no base64!") == ()
    assert decode_places(LOOK.places)["00000003"] == (4, 4, 20, 20)
    assert decode_places("x:1,2 y:1,2,3,4") == {"y": (1, 2, 3, 4)}
    assert place_overlap(LOOK.places, shifted(0, (4, 4, 20, 12)).places) == (6, 0.5)
    assert look_distance(LOOK.values, encode_values([0.5])) == float("inf")


def test_a_concept_is_known_by_its_look_and_by_its_places_where_images_are_shared() -> None:
    assert is_same_look(LOOK, shifted(0.0))
    assert is_same_look(LOOK, shifted(0.0, first=100))  # no image is shared: the look alone
    assert not is_same_look(LOOK, shifted(0.0, (40, 40, 60, 60)))  # it looks the same, and is elsewhere
    assert not is_same_look(LOOK, shifted(-0.9))


def test_an_entry_finds_its_concept_in_another_network_and_prefers_its_own() -> None:
    mine = dataclasses.replace(region(), look=shifted(0.01))
    said = entry(mine)
    assert match(said, mine)
    assert not match(said, dataclasses.replace(mine, look=None))
    assert not match(dataclasses.replace(said, look=""), mine)
    assert not match(said, dataclasses.replace(mine, class_name="other"))
    twin = dataclasses.replace(mine, index=99, channels=(9, 8, 7), look=shifted(0.0))
    assert match_among(said, [mine, twin]) == (twin,)  # the nearer one
    assert match_among(dataclasses.replace(said, fingerprint=fingerprint(mine)), [mine, twin]) == (mine,)


def test_a_written_review_is_read_as_the_same(tmp_path: Path) -> None:
    entries = (entry(region(), limit=0.25, crop="data:image/jpeg;base64,AA=="), entry(region(1)))
    write_review(Review(str(tmp_path / "r.toml"), entries))
    assert load_review(tmp_path / "r.toml").entries == entries
    assert render_review(entries).count("[[entry]]") == 2


def test_a_new_word_takes_the_place_of_the_old_one() -> None:
    first, second = entry(region()), entry(region(), verdict="accepted")
    assert merge_entries([first], [second]) == (second,)
    again = entry(region(), shifted(0.01), verdict="unclear", fingerprint="1" * 8)  # of a retrained network
    assert merge_entries([second], [again]) == (again,)
    other = entry(region(), shifted(-0.9), fingerprint="2" * 8)
    assert set(merge_entries([second], [other])) == {second, other}
    factor = entry(region(), kind="border")
    assert set(merge_entries([second, factor], [dataclasses.replace(factor, verdict="accepted")])) == {
        second,
        dataclasses.replace(factor, verdict="accepted"),
    }


def test_what_can_be_reviewed_is_what_the_gate_may_name() -> None:
    things = list_reviewable(sample(), 0.0)
    assert [thing.drop for thing in things] == sorted((thing.drop for thing in things), reverse=True)
    assert {thing.kind for thing in things} >= {REGION}
    assert all(thing.low > 0.3 for thing in list_reviewable(sample(), 0.3))
    one = next(thing for thing in things if thing.kind == REGION)
    assert f'fingerprint = "{fingerprint(one.concept)}"' in entry_head(one, None) if one.concept else False
