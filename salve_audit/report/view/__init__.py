"""Builds all that the templates print from an AuditResult; templates hold loops and ifs, nothing else."""

from __future__ import annotations

from salve_audit.report.numbers import moment
from salve_audit.report.view.autoencoder import build_autoencoder
from salve_audit.report.view.classes import build_classes, build_curves, build_distributions
from salve_audit.report.view.demo import build_demo
from salve_audit.report.view.evidence import build_evidence
from salve_audit.report.view.features import build_effects, build_map
from salve_audit.report.view.findings import findings
from salve_audit.report.view.front import build_front, date
from salve_audit.report.view.interventions import build_interventions
from salve_audit.report.view.page import HTML, PDF, Medium, ReportView, Section
from salve_audit.report.view.provenance import build_method, build_provenance
from salve_audit.report.view.seeds import build_seeds
from salve_audit.report.view.seeing import build_seeing
from salve_audit.report.view.stress import build_stress
from salve_audit.results import AuditResult

__all__ = ["HTML", "PDF", "Medium", "ReportView", "build_view"]


def build_view(result: AuditResult, medium: Medium = HTML) -> ReportView:
    """The view of `result` for a medium."""
    front = build_front(result)
    sections = [
        Section(
            "findings",
            "Findings and warnings",
            "findings.html.j2",
            {"warnings": findings(result), "notes": result.notes},
        ),
        build_classes(result, medium),
        build_evidence(result, medium),
        build_curves(result, medium),
        build_distributions(result, medium),
        build_map(result, medium),
        build_seeing(result, medium),
        build_effects(result, medium),
        build_interventions(result, medium),
        build_stress(result, medium),
        build_autoencoder(result, medium),
        build_seeds(result, medium),
        build_method(result),
        build_provenance(result, medium),
    ]
    if result.demo is not None:
        sections.append(build_demo(result, result.demo, medium))
    present = tuple(section for section in sections if section is not None)
    return ReportView(
        title=f"Reliance report: {result.model.name}",
        model=result.model.name,
        verdict=front.banner.word,
        created=moment(result.created).isoformat(),
        date=date(result),
        tool=f"salve-audit {result.tool_version}",
        is_demo=result.demo is not None,
        medium=medium,
        front=front,
        sections=present,
    )
