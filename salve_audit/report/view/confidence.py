"""How far to trust it: cautions by what they affect, controls, independent checks, sample sizes, seeds."""

from __future__ import annotations

from salve_audit.report.language import say
from salve_audit.report.view.evidence import controls_table
from salve_audit.report.view.evidence_controls import say_checks
from salve_audit.report.view.findings import CONCLUSION, findings
from salve_audit.report.view.order import ranked
from salve_audit.report.view.page import Medium, Section
from salve_audit.report.view.seeds import seeds_sentence
from salve_audit.results import AuditResult
from salve_audit.results.notes import SAMPLED


def build_confidence(result: AuditResult, medium: Medium) -> Section:
    """Cautions first, then the controls of every class."""
    parts = {
        "cautions": [
            (say("affects the conclusion") if each.affects == CONCLUSION else say("affects the appendix"), each)
            for each in findings(result)
        ],
        "checks": say_checks(ranked(result), result.concepts),
        "controls": controls_table(result, medium.table_rows),
        "seeds": seeds_sentence(result),
        "notes": tuple(note for note in result.notes if not note.startswith(SAMPLED)),  # a caution says it
    }
    return Section("confidence", say("Confidence"), "confidence.html.j2", parts)
