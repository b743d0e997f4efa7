"""Reliance at depth in the report: the first table, the section, and nothing where it was not measured."""

from __future__ import annotations

import dataclasses

import pytest

from salve_audit.report import render_html
from salve_audit.report.view import HTML, PDF, build_view
from salve_audit.report.view.depth import build_depth
from salve_audit.results import AuditResult, ClassDepth, Concept, ConceptEffect, Depth, parse_audit

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
    assert f"Without one concept {sole} loses more than half of the accuracy" in parts["sentence"]
    assert f"no one thing was found that takes more than half of the accuracy from {many}" in parts["sentence"]
    assert deep.classes[2].name not in parts["sentence"]  # too thin for a judgement
    assert "12,345 passes" in parts["how"]
    first, second = (parts["table"].rows[i] for i in (0, 2))
    assert [cell.text for cell in first] == [
        sole, "60", "95.0\u00a0% (87.0–100.0)", "2.0\u00a0%", "1 (1 to > 5)", "0", "–"
    ]  # fmt: skip
    assert second[0].text == many
    assert second[4].text == "> 5 (> 5 to > 5)" or second[4].text == "> 5"
    assert [row[0].text for row in parts["concepts"].rows] == ["0", "1"]
    assert parts["concepts"].rows[0][7].text == "−95.0"
    assert len(parts["concepts"].rows[0]) == 9  # nothing is said of other classes


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
    warning = f"{sole} rests on one thing in the picture: without it more than half of the accuracy is lost."
    assert warning in view.front.warnings
    by_chance = dataclasses.replace(deep.classes[0].depth, null=0.9)
    classes = (dataclasses.replace(deep.classes[0], depth=by_chance), *deep.classes[1:])
    parts = build_depth(dataclasses.replace(deep, classes=classes), HTML).parts
    assert parts["table"].rows[0][6].words == ("not beyond random places",)
