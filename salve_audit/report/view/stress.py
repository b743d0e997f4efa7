"""The section on edits beyond one class at one strength: enhanced, added up, undone."""

from __future__ import annotations

from salve_audit.report.language import say
from salve_audit.report.numbers import count
from salve_audit.report.view.composition import (
    chain_table,
    composition_table,
    drift_figure,
    drift_sentence,
    order_sentence,
)
from salve_audit.report.view.enhancement import enhancement_figure, enhancement_sentence, enhancement_table
from salve_audit.report.view.page import Medium, Section
from salve_audit.report.view.recovery import recovery_classes_table, recovery_sentences, recovery_table
from salve_audit.results import AuditResult, Stress


def build_stress(result: AuditResult, medium: Medium) -> Section | None:
    """The section; None where an earlier version wrote the audit, or no class could be examined."""
    stress = result.stress
    if stress is None or not stress.enhancement:
        return None
    parts = {
        "scope": _scope(stress),
        "n_per_class": count(stress.n_per_class),
        "target": f"{100 * stress.target_accuracy:g} %" if stress.target_accuracy is not None else "",
        "enhancement": enhancement_sentence(stress.enhancement),
        "enhancement_table": enhancement_table(stress.enhancement, medium.table_rows),
        "enhancement_figure": enhancement_figure(stress.enhancement),
        "drift": drift_sentence(stress) if stress.composition else "",
        "order": order_sentence(stress) if stress.composition else "",
        "composition_table": composition_table(stress.composition) if stress.composition else None,
        "drift_figure": drift_figure(stress.composition) if stress.composition else None,
        "chains": chain_table(stress.chains, medium.table_rows) if stress.chains and medium.numbers else None,
        "recovery": recovery_sentences(stress.recovery, stress.target_accuracy or 0.0) if stress.recovery else [],
        "recovery_table": recovery_table(stress.recovery) if stress.recovery else None,
        "recovery_classes": recovery_classes_table(stress.recovery, medium.table_rows)
        if stress.recovery and medium.numbers
        else None,
    }
    return Section("stress", say("Edits enhanced, added up and undone"), "stress.html.j2", parts)


def _scope(stress: Stress) -> str:
    """A sentence on the classes that were left out; "" where there are none."""
    if not stress.n_classes_left_out:
        return ""
    examined, left = len(stress.class_names), stress.n_classes_left_out
    return say(
        "Examined are the {examined} most fragile classes; {left} are left out. Accuracies are over {n_samples} "
        "audit images.",
        examined=count(examined),
        left=count(left),
        n_samples=count(stress.n_samples),
    )
