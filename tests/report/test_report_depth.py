"""Reliance at depth in the report: the first table, the section, and nothing where it was not measured."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from salve_audit.reliance.survival import wilson
from salve_audit.report import render_html
from salve_audit.report.view import HTML, PDF, build_view
from salve_audit.report.view.depth import build_depth
from salve_audit.report.view.depth_controls import is_contradicted
from salve_audit.results import AuditResult, ClassDepth, Concept, ConceptEffect, Depth, OcclusionCheck, parse_audit

LIMIT = 5


def _depth(reliance: float, redundancy: int | None, concept: int | None = 0, thin: bool = False) -> ClassDepth:
    low, high = max(0.0, reliance - 0.08), min(1.0, reliance + 0.06)
    return ClassDepth(60, 55, reliance, low, high, concept, redundancy, redundancy, None, LIMIT, 0.02, thin)


@pytest.fixture
def deep(audit: AuditResult) -> AuditResult:
    """Three classes: one on a single concept, one on many, one too thin; the others were not measured."""
    found = [_depth(0.95, 1), _depth(0.05, None, None), _depth(0.6, 2, 1, thin=True)]
    classes = tuple(
        dataclasses.replace(one, depth=found[i] if i < len(found) else None) for i, one in enumerate(audit.classes)
    )
    own, other = classes[0].name, classes[1].name
    effect = (ConceptEffect(own, 0.95, 0.87, 0.99), ConceptEffect(other, -0.02, -0.04, 0.0))
    concepts = (
        Concept(0, "layer1", own, (3, 5), 0.12, 40, effect),
        Concept(1, "layer1", classes[2].name, (7,), 0.3, 9, (ConceptEffect(classes[2].name, 0.6, 0.4, 0.7),)),
    )
    depth = Depth("One sentence.", ("layer1",), 200, 12345)
    return dataclasses.replace(audit, classes=classes, concepts=concepts, depth=depth)


def test_the_section_names_who_rests_on_one_concept(deep: AuditResult) -> None:
    parts = build_depth(deep, HTML).parts
    sole, many = deep.classes[0].name, deep.classes[1].name
    assert f"Without one concept more than half of the pictures of {sole} turn wrong" in parts["sentence"]
    assert (
        f"no one thing was found without which more than half of the pictures of {many} turn wrong" in parts["sentence"]
    )
    assert deep.classes[2].name not in parts["sentence"]  # too thin for a judgement
    assert "12,345 passes" in parts["how"]
    first, second = (parts["table"].rows[i] for i in (0, 2))
    assert [cell.text for cell in first] == [
        sole, "60", "95.0\u00a0% (87.0–100.0)", "2.0\u00a0%", "–", "–", "1 (1 to > 5)", "0", "–"
    ]  # fmt: skip
    assert second[0].text == many
    assert second[6].text == "> 5"
    assert [row[0].text for row in parts["concepts"].rows] == ["0", "1"]
    assert parts["concepts"].rows[0][6].text == "−95.0"
    assert len(parts["concepts"].rows[0]) == 8  # nothing is said of other classes


def test_the_first_table_sets_it_beside_the_thresholds_of_the_head(deep: AuditResult, audit: AuditResult) -> None:
    heads = [column.header for column in build_view(deep).front.table.columns]
    assert heads[-2:] == ["Reliance at depth, %", "Redundancy at depth"]
    assert "Redundancy at the head" in heads
    assert "Reliance at depth, %" not in [column.header for column in build_view(audit).front.table.columns]
    assert "Reliance at depth asks that other question" in render_html(deep)
    assert "All of this is measured at the head." in render_html(audit)


def test_why_it_was_not_measured_is_said_and_old_audits_have_no_section(audit: AuditResult) -> None:
    absent = dataclasses.replace(audit, depth=Depth("", why_absent="the audit is of arrays"))
    assert "Not measured: the audit is of arrays." in render_html(absent)
    assert build_depth(audit, HTML) is None


def test_records_survive_audit_json(deep: AuditResult) -> None:
    assert parse_audit(deep.to_json()) == deep
    assert build_depth(deep, PDF) is not None


def test_the_first_page_warns_of_a_class_on_one_thing_and_of_what_chance_does_as_well(deep: AuditResult) -> None:
    view = build_view(deep)
    sole = deep.classes[0].name
    warning = f"{sole} rests on one thing in the picture: without it more than half of the pictures turn wrong."
    assert warning in view.front.warnings
    by_chance = dataclasses.replace(deep.classes[0].depth, null=0.9)
    classes = (dataclasses.replace(deep.classes[0], depth=by_chance), *deep.classes[1:])
    parts = build_depth(dataclasses.replace(deep, classes=classes), HTML).parts
    assert parts["table"].rows[0][8].words == ("not beyond chance",)


def _first(deep: AuditResult, **changes: object) -> AuditResult:
    """With changes at depth of its first class."""
    found = dataclasses.replace(deep.classes[0].depth, **changes)
    return dataclasses.replace(deep, classes=(dataclasses.replace(deep.classes[0], depth=found), *deep.classes[1:]))


def test_chance_is_told_from_reliance_by_the_interval_of_the_difference() -> None:
    """Against draws: two shares of 100 pictures whose intervals overlap and that still differ, and two that do not."""
    for reliance, null, beyond in ((0.5, 0.34, True), (0.5, 0.38, False), (0.0, 0.0, False), (1.0, 0.0, True)):
        (low, high), (null_low, null_high) = wilson(round(100 * reliance), 100), wilson(round(100 * null), 100)
        fields = {"reliance": reliance, "low": low, "high": high, "null": null}
        found = dataclasses.replace(_depth(0.5, 1), **fields, null_low=null_low, null_high=null_high)
        assert found.is_by_chance != beyond
        rng = np.random.default_rng(0)
        drawn = rng.binomial(100, reliance, 20_000) - rng.binomial(100, null, 20_000)
        assert (np.percentile(drawn, 2.5) > 0) == beyond


def test_a_class_that_loses_as_much_by_chance_is_not_said_to_rest_on_one_thing(deep: AuditResult) -> None:
    sole = deep.classes[0].name
    same = _first(deep, null=0.93, null_low=0.85, null_high=0.97)
    assert not any(f"{sole} rests on one thing" in warning for warning in build_view(same).front.warnings)
    assert sole not in build_depth(same, HTML).parts["sentence"]
    assert build_depth(same, HTML).parts["table"].rows[0][3].text == "93.0\u00a0% (85.0–97.0)"


def _disagrees(deep: AuditResult, reliance: float, check: OcclusionCheck) -> bool:
    own = dataclasses.replace(deep.concepts[0].effect[0], drop=reliance, low=reliance - 0.05, high=reliance + 0.1)
    concepts = (dataclasses.replace(deep.concepts[0], effect=(own,)), *deep.concepts[1:])
    return is_contradicted(dataclasses.replace(_depth(reliance, None), check=check), concepts)


def test_what_occlusion_bears_out_is_said_and_what_it_contradicts(deep: AuditResult) -> None:
    sole = deep.classes[0].name
    agreeing = OcclusionCheck(0, 40, 0.95, 0.84, 0.99, None, 0.92, 0.83, 0.96)
    parts = build_depth(_first(deep, check=agreeing), HTML).parts
    assert [cell.text for cell in parts["table"].rows[0][4:6]] == ["92.0\u00a0% (83.0–96.0)", "38 of 40"]
    assert parts["check"].endswith("agrees with filling them in on 38 of 40 pictures (95.0\u00a0%).")
    against = OcclusionCheck(0, 40, 0.3, 0.18, 0.45, 0.01, 0.2, 0.12, 0.3)
    audit = _first(deep, check=against)
    parts = build_depth(audit, HTML).parts
    assert f"found of {sole}: occlusion of the same places disagrees on 28 of 40 pictures." in parts["check"]
    assert parts["table"].rows[0][8].words == ("occlusion disagrees",)
    warnings = build_view(audit).front.warnings
    assert f"{sole} seems to rest on one thing in the picture, but occlusion of the same places disagrees on 28" in (
        " ".join(warnings)
    )
    assert not any(f"{sole} rests on one thing" in warning for warning in warnings)
    assert "occlusion of the same places disagrees" in render_html(audit)
    # somewhat more under a box is what boxes do; that it alone takes more than half is another finding
    assert not _disagrees(deep, 0.1, OcclusionCheck(0, 40, 0.7, 0.55, 0.81, None, 0.4, 0.29, 0.52))
    assert _disagrees(deep, 0.1, OcclusionCheck(0, 40, 0.6, 0.45, 0.73, None, 0.7, 0.55, 0.81))
    # a class that rests on the frame is not contradicted by what its places do
    framed = dataclasses.replace(audit.concepts[1], class_name=sole, kind="frame", index=2)
    framed_audit = dataclasses.replace(_first(audit, concept=2), concepts=(*audit.concepts, framed))
    assert build_depth(framed_audit, HTML).parts["table"].rows[0][8].words == ()
    assert parse_audit(audit.to_json()) == audit
