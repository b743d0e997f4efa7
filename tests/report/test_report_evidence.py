"""Image reliance in the report: the first table, the section, and nothing where it was not measured."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from salve_audit.reliance.survival import wilson
from salve_audit.report import render_html
from salve_audit.report.conclusions import Conclusions, Doubt, Group, is_contradicted
from salve_audit.report.numbers import unmarked
from salve_audit.report.sentences import class_sentence
from salve_audit.report.view.confidence import build_confidence
from salve_audit.report.view.evidence import build_concepts, controls_table
from salve_audit.report.view.page import HTML, PDF
from salve_audit.results import (
    AuditResult,
    Concept,
    ConceptEffect,
    EvidenceInfo,
    ImageReliance,
    OcclusionCheck,
    parse_audit,
)

LIMIT = 5


def _reliance(reliance: float, redundancy: int | None, concept: int | None = 0, thin: bool = False) -> ImageReliance:
    low, high = max(0.0, reliance - 0.08), min(1.0, reliance + 0.06)
    kind = None if concept is None else "region"
    return ImageReliance(60, 55, reliance, low, high, kind, concept, redundancy, redundancy, None, LIMIT, 0.02, thin)


@pytest.fixture
def deep(audit: AuditResult) -> AuditResult:
    """Three classes: one on a single concept, one on many, one too thin; the others were not measured."""
    reliances = [_reliance(0.95, 1), _reliance(0.05, None, None), _reliance(0.6, 2, 1, thin=True)]
    classes = tuple(
        dataclasses.replace(class_record, image_reliance=reliances[i] if i < len(reliances) else None)
        for i, class_record in enumerate(audit.classes)
    )
    own, other = classes[0].name, classes[1].name
    effect = (ConceptEffect(own, 0.95, 0.87, 0.99), ConceptEffect(other, -0.02, -0.04, 0.0))
    concepts = (
        Concept(0, "layer1", own, (3, 5), 0.12, 40, effect),
        Concept(1, "layer1", classes[2].name, (7,), 0.3, 9, (ConceptEffect(classes[2].name, 0.6, 0.4, 0.7),)),
    )
    info = EvidenceInfo("One sentence.", "layer1", 200, 12345)
    return dataclasses.replace(audit, classes=classes, concepts=concepts, evidence=info)


def _groups(result: AuditResult) -> dict[str, Group]:
    return {each.name: each.group for each in Conclusions(result).ranked}


def test_classes_are_grouped_and_every_control_has_its_column(deep: AuditResult) -> None:
    sole, many, thin = (deep.classes[i].name for i in range(3))
    groups = _groups(deep)
    assert [groups[name] for name in (sole, many, thin)] == [Group.DEPENDS, Group.NOT_FOUND, Group.TOO_FEW]
    assert groups[deep.classes[3].name] is Group.NOT_EXAMINED
    parts = build_concepts(deep, HTML).parts
    assert "12,345 passes" in parts["how"]
    assert [row[0].text for row in parts["concepts"].rows] == ["0", "1"]
    assert parts["concepts"].rows[0][6].text == "−95.0"
    assert len(parts["concepts"].rows[0]) == 8  # nothing is said of other classes
    table = controls_table(deep, 10)
    assert table is not None
    first, second = table.rows[:2]
    assert [cell.text for cell in first] == [
        sole, "60", "95\u00a0% (87–100)", "2\u00a0%", "–", "–", "1 (1 to > 5)", "concept 0", "–"
    ]  # fmt: skip
    assert second[0].text == many
    assert second[6].text == "> 5"


def test_why_it_was_not_measured_is_said_and_old_audits_have_no_section(audit: AuditResult) -> None:
    absent = dataclasses.replace(audit, evidence=EvidenceInfo("", why_absent="the audit is of arrays"))
    assert "Image reliance was not measured: the audit is of arrays." in render_html(absent)
    assert build_concepts(audit, HTML) is None
    assert controls_table(audit, 10) is None


def test_records_survive_audit_json(deep: AuditResult) -> None:
    assert parse_audit(deep.to_json()) == deep
    assert build_concepts(deep, PDF) is not None


def _first(deep: AuditResult, **changes: object) -> AuditResult:
    """With changes in the image of its first class."""
    reliance = dataclasses.replace(deep.classes[0].image_reliance, **changes)
    return dataclasses.replace(
        deep, classes=(dataclasses.replace(deep.classes[0], image_reliance=reliance), *deep.classes[1:])
    )


def test_chance_is_told_from_reliance_by_the_interval_of_the_difference() -> None:
    """Against draws: two shares of 100 images whose intervals overlap and that still differ, and two that do not."""
    for reliance, chance, beyond in ((0.5, 0.34, True), (0.5, 0.38, False), (0.0, 0.0, False), (1.0, 0.0, True)):
        (low, high), (null_low, null_high) = wilson(round(100 * reliance), 100), wilson(round(100 * chance), 100)
        fields = {"reliance": reliance, "low": low, "high": high, "chance": chance}
        record = dataclasses.replace(_reliance(0.5, 1), **fields, chance_low=null_low, chance_high=null_high)
        assert record.is_by_chance != beyond
        rng = np.random.default_rng(0)
        drawn = rng.binomial(100, reliance, 20_000) - rng.binomial(100, chance, 20_000)
        assert (np.percentile(drawn, 2.5) > 0) == beyond


def test_a_class_that_loses_as_much_by_chance_is_not_said_to_depend_on_one_thing(deep: AuditResult) -> None:
    same = _first(deep, chance=0.93, chance_low=0.85, chance_high=0.97)
    conclusion = next(each for each in Conclusions(same).ranked if each.name == deep.classes[0].name)
    assert (conclusion.group, conclusion.doubt) == (Group.UNDECIDED, Doubt.CHANCE)
    assert "removing other places of the same size costs about as much" in class_sentence(conclusion, 0.5)
    table = controls_table(same, 10)
    assert table is not None
    row = next(row for row in table.rows if row[0].text == conclusion.name)
    assert row[3].text == "93\u00a0% (85–97)"
    assert row[8].words == ("not beyond chance",)


def _disagrees(deep: AuditResult, reliance: float, check: OcclusionCheck) -> bool:
    own = dataclasses.replace(deep.concepts[0].effect[0], drop=reliance, low=reliance - 0.05, high=reliance + 0.1)
    concepts = (dataclasses.replace(deep.concepts[0], effect=(own,)), *deep.concepts[1:])
    return is_contradicted(dataclasses.replace(_reliance(reliance, None), check=check), concepts)


def test_what_occlusion_bears_out_is_said_and_what_it_contradicts(deep: AuditResult) -> None:
    sole = deep.classes[0].name
    agreeing = _first(deep, check=OcclusionCheck(0, 40, 0.95, 0.84, 0.99, None, 0.92, 0.83, 0.96))
    table = controls_table(agreeing, 10)
    assert table is not None
    assert [cell.text for cell in table.rows[0][4:6]] == ["92\u00a0% (83–96)", "38 of 40"]
    checks = unmarked(build_confidence(agreeing, HTML).parts["checks"])
    assert checks.endswith("agrees with inpainting them on 38 of 40 images (95.0\u00a0%).")
    audit = _first(deep, check=OcclusionCheck(0, 40, 0.3, 0.18, 0.45, 0.01, 0.2, 0.12, 0.3))
    assert _groups(audit)[sole] is Group.UNDECIDED
    confidence = build_confidence(audit, HTML).parts
    assert f"found for {sole}: occlusion of the same regions disagrees on 28" in unmarked(confidence["checks"])
    tag, caution = confidence["cautions"][0]
    assert tag == "affects the conclusion"
    assert f"What was found on {sole} is doubtful: occlusion of the same regions disagrees on 28 of 40" in unmarked(
        caution.text
    )
    # somewhat more under a box is what boxes do; that it alone takes more than half is another finding
    assert not _disagrees(deep, 0.1, OcclusionCheck(0, 40, 0.7, 0.55, 0.81, None, 0.4, 0.29, 0.52))
    assert _disagrees(deep, 0.1, OcclusionCheck(0, 40, 0.6, 0.45, 0.73, None, 0.7, 0.55, 0.81))
    # five of ten that agree may be eight of ten; half of forty are not
    assert not _disagrees(deep, 0.6, OcclusionCheck(0, 10, 0.5, 0.24, 0.76, None, 0.6, 0.3, 0.8))
    assert _disagrees(deep, 0.6, OcclusionCheck(0, 40, 0.5, 0.35, 0.65, None, 0.6, 0.3, 0.8))
    # a class that depends on the frame is not contradicted by what its places do
    framed = dataclasses.replace(audit.concepts[1], class_name=sole, kind="border", index=2)
    framed_audit = dataclasses.replace(_first(audit, concept=2, kind="border"), concepts=(*audit.concepts, framed))
    assert _groups(framed_audit)[sole] is Group.DEPENDS
    assert parse_audit(audit.to_json()) == audit
