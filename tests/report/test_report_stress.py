"""Edits enhanced, added up and undone: what the report says follows from the numbers, flattering or not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from salve_audit.report import render_html
from salve_audit.report.numbers import unmarked
from salve_audit.report.view.composition import composition_table, drift_sentence, order_sentence
from salve_audit.report.view.enhancement import enhancement_sentence, enhancement_table
from salve_audit.report.view.features import build_effects
from salve_audit.report.view.page import HTML, PDF
from salve_audit.report.view.recovery import recovery_sentences, recovery_table
from salve_audit.report.view.stress import build_stress
from salve_audit.report.view.sweeps import sweep_order, sweep_sentence
from salve_audit.results import AuditResult, Composition, Recovery, Stress, parse_audit


def _stress(audit: AuditResult) -> Stress:
    assert audit.stress is not None
    return audit.stress


def _plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def test_records_survive_the_file(audit: AuditResult) -> None:
    again = parse_audit(audit.to_json())
    assert again.stress == audit.stress
    assert [feature.sweep for feature in again.features] == [feature.sweep for feature in audit.features]


def test_an_audit_of_an_earlier_version_has_no_such_section(audit: AuditResult) -> None:
    assert build_stress(dataclasses.replace(audit, stress=None), HTML) is None


def test_the_section_renders_in_both_media(audit: AuditResult) -> None:
    for medium in (HTML, PDF):
        page = render_html(audit, medium)
        assert "Edits enhanced, added up and undone" in page
        assert "<b>0.png" not in page  # a path is text, not markup
        assert ("Median size by class" in page) is medium.numbers


def test_classes_left_out_are_counted(make_result: Callable[..., AuditResult]) -> None:
    section = build_stress(make_result(100), HTML)
    assert section is not None
    assert section.parts["scope"].startswith("Examined are the 45 most fragile classes; 50 are left out.")
    whole = build_stress(make_result(10), HTML)
    assert whole is not None
    assert whole.parts["scope"] == ""


def test_enhancement_names_the_first_loss_and_who_loses(audit: AuditResult) -> None:
    curves = _stress(audit).enhancement
    said = enhancement_sentence(curves)
    assert "up to α̂ = 0.800 in every class (median 1.30); beyond it the others lose it first in 8 of 9 classes" in said
    assert "the enhanced class changes by +20.0 points on average, the others by −4.0." in said
    cells = [[c.text for c in row] for row in enhancement_table(curves, 40).rows]
    assert [row[2] for row in cells][:3] == ["0.800", "0.900", "any"]
    forever = [dataclasses.replace(curve, kept_until=None, lost_by="") for curve in curves]
    assert enhancement_sentence(forever).startswith("Enhanced without end, class and others keep 99 %")


def test_a_class_without_others_has_no_number_for_them(audit: AuditResult) -> None:
    alone = dataclasses.replace(_stress(audit).enhancement[0], others=(), others_low=(), others_high=())
    assert enhancement_sentence([alone]).endswith("points on average.")
    table = enhancement_table([alone], 40)
    assert [c.text for c in table.rows[0]][-3:] == ["–"] * 3
    assert table.notes[0][1] == "there is no other class"


def test_composition_says_what_adds_up(audit: AuditResult) -> None:
    stress = _stress(audit)
    said = drift_sentence(stress)
    assert "After 5 edits by SALVE the classes that were not edited change by −50.0 points" in said
    assert "Compared with that yardstick on the same sets, edits by SALVE add up to damage (−56.0 points" in said
    order = unmarked(_plain(order_sentence(stress)))
    assert order.startswith("The order of the edits changes nothing under SALVE and row scaling (trivial)")
    assert order.endswith("at worst: directional ablation 90.0 %.")
    assert [c.header for c in composition_table(stress.composition).columns][3:6] == [
        f"Others after {n}, points" for n in ("1 edit", "2 edits", "5 edits")
    ]


def test_composition_without_harm_is_told_as_such(audit: AuditResult) -> None:
    stress = _stress(audit)
    by_method = {composition.method: composition for composition in stress.composition}
    good = dataclasses.replace(by_method["output-removed"], method="salve")
    compositions: tuple[Composition, ...] = (by_method["output-removed"], good)
    assert drift_sentence(dataclasses.replace(stress, composition=compositions)).endswith(
        "On the same sets SALVE costs the others nothing that shows in comparison with that yardstick."
    )
    alone = dataclasses.replace(stress, composition=compositions[:1])
    assert drift_sentence(alone).startswith("SALVE brought no set of classes")


def _recovered(stress: Stress, median: float) -> tuple[Recovery, ...]:
    """SALVE with another median."""
    return tuple(
        dataclasses.replace(recovery, median=median, low=0.95 * median, high=1.05 * median)
        if recovery.method == "salve"
        else recovery
        for recovery in stress.recovery
    )


def test_recovery_is_judged_by_the_yardstick_and_the_nulls(audit: AuditResult) -> None:
    stress = _stress(audit)
    said = [_plain(sentence) for sentence in recovery_sentences(stress.recovery, 0.05)]
    assert "brings back 70.0 % of the images that SALVE edits away (70.0 % under row scaling)" in said[0]
    assert said[1] == "The edit hides the class, it does not remove it: median size 6.0 % against 48.0 %."
    assert said[2] == "Easiest to undo is SALVE (median size 6.0 %), hardest row scaling (trivial) (17.0 %)."
    assert said[3].startswith("SALVE is not harder to undo than a null control beyond chance")
    assert recovery_sentences(_recovered(stress, 0.47), 0.05)[1].startswith("Edited images are about as far")
    far = recovery_sentences(_recovered(stress, 0.9), 0.05)
    assert far[1].startswith("The edit takes images farther")
    assert far[3].startswith("SALVE is harder to undo than its null controls")
    assert recovery_sentences(stress.recovery[:1], 0.05) == [
        "SALVE brought no class to the target, so there is nothing to bring back."
    ]


def test_a_method_that_reaches_no_class_has_no_recovery(audit: AuditResult) -> None:
    table = recovery_table(_stress(audit).recovery)
    row = next(row for row in table.rows if row[0].text == "ROME, covariance")
    assert {c.text for c in row[3:]} == {"–"}
    assert [note for _, note in table.notes] == ["no class that the method brings to the target"]


def test_sweeps_put_the_most_entangled_first(audit: AuditResult) -> None:
    parts = build_effects(audit, HTML).parts
    assert (
        parts["entangled"][0]
        == "Feature 4: suppressed at α̂ = 4, automobile changes by −48.0 and truck by +20.0 points."
    )
    assert parts["figure"] is None
    swept = sweep_order(audit.features)
    assert sweep_sentence(swept, audit.stress).startswith(
        "Up to α̂ = 4, 2 of 2 cross-class features move classes in opposite directions beyond chance when suppressed"
    )
    still = dataclasses.replace(swept[0].sweep, moves=())
    features = [dataclasses.replace(swept[0].info, sweep=still), swept[1].info]
    assert [row.info.index for row in sweep_order(features)] == [swept[1].info.index, swept[0].info.index]
    assert sweep_sentence(sweep_order(features[:1]), None) == (
        "Up to α̂ = 4 none of 1 cross-class feature moves two classes in opposite directions beyond chance; "
        "1 moves no class at all."
    )
