"""Builds all that the templates print from an AuditResult; templates hold loops and ifs, nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from salve_audit.report.backing import FRONT, back_section, find_evidence_page, list_backings
from salve_audit.report.conclusions import Conclusions
from salve_audit.report.labels import address_classes, label_classes
from salve_audit.report.language import say
from salve_audit.report.numbers import clean, moment, unmarked
from salve_audit.report.view.autoencoder import build_autoencoder
from salve_audit.report.view.cards import build_cards, choose_carded
from salve_audit.report.view.changes import build_changes, since
from salve_audit.report.view.confidence import build_confidence
from salve_audit.report.view.data_check import build_data_check
from salve_audit.report.view.demo import build_demo
from salve_audit.report.view.evidence import build_concepts
from salve_audit.report.view.features import build_effects, build_map
from salve_audit.report.view.front import build_front, date
from salve_audit.report.view.index import build_index
from salve_audit.report.view.interventions import build_interventions
from salve_audit.report.view.page import HTML, PDF, SHORT_ROWS, ClassName, Medium, ReportView, Section
from salve_audit.report.view.provenance import build_method, build_provenance
from salve_audit.report.view.reading import build_reading
from salve_audit.report.view.recommendations import build_recommendations
from salve_audit.report.view.rendering import Rendering
from salve_audit.report.view.review import build_review
from salve_audit.report.view.seeds import build_seeds
from salve_audit.report.view.seeing import build_seeing
from salve_audit.report.view.stress import build_stress
from salve_audit.report.view.thresholds import build_checks, build_thresholds
from salve_audit.results import AuditResult
from salve_audit.results.relabel import class_names, relabel_classes

__all__ = ["HTML", "PDF", "Medium", "Rendering", "ReportView", "build_view"]


def build_view(result: AuditResult, medium: Medium = HTML, rendering: Rendering | None = None) -> ReportView:
    """The view of `result` for a medium."""
    rendering = rendering or Rendering()
    if medium.name == "pdf" and rendering.extent == "short":
        medium = dataclasses.replace(medium, detail_rows=SHORT_ROWS)
    labels = label_classes(class_names(result))
    names = _name_classes(result, labels)
    labelled = relabel_classes(result, labels)
    conclusions = Conclusions(labelled, rendering.reviewed)
    compared = rendering.comparison
    front = build_front(conclusions, names, "" if compared is None else since(compared))
    main = [
        None if compared is None else build_changes(compared, names, labels, medium),
        build_reading(conclusions, medium),
        build_cards(conclusions, names, medium),
        build_thresholds(labelled, medium),
        build_effects(labelled, medium),
        build_recommendations(conclusions, names, medium),
        build_review(result, names, labels, rendering.reviewed, medium) if rendering.review_form else None,
        build_data_check(labelled, medium),
        build_confidence(labelled, medium),
        build_provenance(labelled, medium),
        build_index(conclusions, names, medium),
    ]
    banner = front.banner
    sections = _back(result, main)
    with_appendix = medium.name == "html" or rendering.extent == "full"
    appendix = _back(result, _appendix(conclusions, medium) if with_appendix else ())
    return ReportView(
        title=f"{say('Audit report')}: {result.model.name}",
        model=result.model.name,
        verdict=say("no policy") if banner is None else banner.word,
        description=unmarked(front.headline),
        created=moment(result.created).isoformat(),
        date=date(result),
        tool=f"salve-audit {result.tool_version}",
        is_demo=result.demo is not None,
        medium=medium,
        paper=rendering.paper,
        language=rendering.language,
        front=front,
        sections=sections,
        appendix=appendix,
        front_backings=back_section(result, FRONT),
        backings=list_backings(result, (section.anchor for section in (*sections, *appendix))),
        names=names,
        evidence_page=find_evidence_page(),
    )


def _back(result: AuditResult, sections: Iterable[Section | None]) -> tuple[Section, ...]:
    """The sections that there are, each with what stands behind its sentences."""
    there = [section for section in sections if section is not None]
    return tuple(dataclasses.replace(each, backings=back_section(result, each.anchor)) for each in there)


def _appendix(conclusions: Conclusions, medium: Medium) -> tuple[Section | None, ...]:
    result = conclusions.result
    carded = {each.concept.index for each in choose_carded(conclusions, medium) if each.concept is not None}
    return (
        build_concepts(result, medium, carded),
        build_seeing(result, medium),
        build_map(result, medium),
        build_checks(result, medium),
        build_interventions(result, medium),
        build_stress(result, medium),
        build_autoencoder(result, medium),
        build_seeds(result, medium),
        build_demo(result, result.demo, medium) if result.demo is not None else None,
        build_method(result),
    )


def _name_classes(result: AuditResult, labels: Mapping[str, str]) -> dict[str, ClassName]:
    """The audited classes by label."""
    audited = [info.name for info in result.classes]
    anchors = address_classes(labels[name] for name in audited)
    return {labels[name]: ClassName(labels[name], clean(name), anchors[labels[name]]) for name in audited}
