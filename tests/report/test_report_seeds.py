"""The section on seeds: medians of every seed, the judged interval, unstable classes named."""

from __future__ import annotations

import dataclasses

from salve_audit.report.view.page import HTML
from salve_audit.report.view.seeds import build_seeds, seed_table
from salve_audit.report.view.thresholds import thresholds_table
from salve_audit.results import AuditResult


def test_unstable_classes_are_named(audit: AuditResult) -> None:
    section = build_seeds(audit, HTML)
    assert section is not None
    unstable = [
        class_record
        for class_record in audit.classes
        if class_record.stable is False and class_record.seeds is not None
    ]
    assert unstable
    for class_record in unstable[:3]:
        assert class_record.name in section.parts["unstable"]
    assert section.parts["n_seeds"] == "5"


def test_both_intervals_are_shown(audit: AuditResult) -> None:
    class_record = next(c for c in audit.classes if c.seeds is not None and c.seeds.high != c.alpha_hat.flip.high)
    cells = [cell.text for cell in seed_table([class_record], 10).rows[0]]
    shown = [text for text in cells if " to " in text or "–" in text]
    assert len(set(shown)) == 2
    judged = [cell.text for cell in thresholds_table([class_record], 10).rows[0]]
    assert shown[1] in judged
    assert shown[0] not in judged


def test_no_section_without_other_seeds(audit: AuditResult) -> None:
    alone = dataclasses.replace(audit, classes=tuple(dataclasses.replace(c, seeds=None) for c in audit.classes))
    assert build_seeds(alone, HTML) is None
