"""What the report says in words follows from the numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from salve_audit.report.numbers import unmarked
from salve_audit.report.recommend import Advice
from salve_audit.report.tables import Noted
from salve_audit.report.view import Rendering, build_view
from salve_audit.report.view.autoencoder import build_autoencoder
from salve_audit.report.view.cards import _factor_part
from salve_audit.report.view.cells import feature_redundancy_cell
from salve_audit.report.view.demo import build_demo
from salve_audit.report.view.features import build_effects
from salve_audit.report.view.findings import APPENDIX, CONCLUSION, FLAG_MEANINGS, findings
from salve_audit.report.view.front import flip_limit
from salve_audit.report.view.order import charted, ranked
from salve_audit.report.view.page import HTML, PDF
from salve_audit.report.view.recommendations import AdviceRow, _in_rows
from salve_audit.report.view.thresholds import censored_cells, thresholds_table, trust_table
from salve_audit.results import (
    AuditResult,
    DemoTruth,
    FactorEffect,
    FeatureEffect,
    FeatureEffects,
    FlipSummary,
    RankCorrelation,
    Rule,
    SaeFidelity,
    StatusCounts,
    Verdict,
)


def _said(result: AuditResult) -> list[str]:
    return [unmarked(caution.text) for caution in findings(result)]


def test_without_image_reliance_unreached_and_empty_come_last(audit: AuditResult) -> None:
    order = ranked(audit)
    medians = [class_record.alpha_hat.flip.median for class_record in order]
    known = [m for m in medians if m is not None]
    assert known == sorted(known)
    assert medians[: len(known)] == known
    assert [class_record.n for class_record in order][-1] == 0
    assert order[-2].n > 0


def test_charted_says_what_it_leaves_out(make_result: Callable[..., AuditResult]) -> None:
    shown, said = charted(make_result(100), 50)
    assert len(shown) == 50
    assert said == ("Shown are the first 50 of 90 classes, by α̂ flip median. No audit images: 10 classes.")
    assert charted(make_result(2), 50)[1] == ""


def test_limit_is_the_gates(audit: AuditResult) -> None:
    assert flip_limit(audit.verdict) == 1.5
    assert flip_limit(Verdict(None, None, ())) is None
    assert audit.verdict.outcomes["ship"] == "fail"


def test_worst_outcome_of_several_rules_counts() -> None:
    rules = tuple(Rule("r", "a", 1.0, None, None, 2.0, outcome) for outcome in ("pass", "fail", "undecided"))
    assert Verdict(False, "p", rules).outcomes == {"a": "fail"}


def test_cautions_are_tagged_by_what_they_affect(unpoliced: AuditResult) -> None:
    cautions = findings(unpoliced)
    assert cautions[0].text.startswith("Code named by the user")
    goal = next(caution for caution in cautions if caution.text.startswith("The autoencoder misses its goal"))
    assert "it keeps 99.0\u00a0% of the accuracy (goal 99 %) at R² 0.840" in goal.text
    assert goal.affects == CONCLUSION  # nothing but the head was measured
    order = [caution.affects for caution in cautions]
    assert order == sorted(order, key=lambda affects: affects == APPENDIX)


def test_a_sample_is_a_caution_on_the_first_page(audit: AuditResult) -> None:
    sampled = dataclasses.replace(audit, data=dataclasses.replace(audit.data, sampled_from=1_281_167))
    (caution,) = [caution for caution in findings(sampled) if caution not in findings(audit)]
    n = audit.data.n_fit + audit.data.n_audit + audit.data.n_skipped
    assert f"A stratified sample of {n:,}" in unmarked(caution.text)
    assert "1,281,167 images was audited" in unmarked(caution.text)
    assert "all intervals are those of the sample" in caution.text
    assert caution.affects == CONCLUSION


def test_every_flag_has_a_meaning(audit: AuditResult) -> None:
    used = {flag for class_record in audit.classes for flag in class_record.flags}
    assert used == set(FLAG_MEANINGS)


def _unswept(audit: AuditResult) -> AuditResult:
    """As an earlier version wrote it."""
    features = tuple(dataclasses.replace(feature, sweep=None) for feature in audit.features)
    return dataclasses.replace(audit, features=features, stress=None)


def test_entanglement_is_named(audit: AuditResult) -> None:
    lines = build_effects(_unswept(audit), HTML).parts["entangled"]
    assert lines[0] == "Feature 4: suppressed at α̂ = 1, automobile changes by −22.5 and truck by +10.5 points."


def test_entanglement_is_told_of_affected_classes_at_the_strength_that_was_tested(audit: AuditResult) -> None:
    """A class that happens to move more, or only at another strength, is not named."""
    feature = next(f for f in _unswept(audit).features if f.entangled)
    loud = list(feature.effect.suppress[1].accuracy_change)
    loud[2] = -0.9  # bird: not significant
    suppress = (feature.effect.suppress[0], FeatureEffect(1.0, tuple(loud)), feature.effect.suppress[2])
    changed = dataclasses.replace(feature, effect=FeatureEffects(suppress, feature.effect.enhance))
    result = dataclasses.replace(audit, features=(changed,))
    (line,) = build_effects(result, HTML).parts["entangled"]
    assert line == "Feature 4: suppressed at α̂ = 1, automobile changes by −22.5 and truck by +10.5 points."
    untested = dataclasses.replace(changed, effect=FeatureEffects(suppress[:1], ()))
    (bare,) = build_effects(dataclasses.replace(audit, features=(untested,)), HTML).parts["entangled"]
    assert unmarked(bare) == "Feature 4: automobile and truck in opposite directions."


def test_active_latents_are_told_of_the_living_ones(audit: AuditResult) -> None:
    dense = dataclasses.replace(audit.sae, n_latents=256, n_dead=205, l0=40.83)
    result = dataclasses.replace(audit, sae=dense)
    assert "40.8 of 51 living latents active per image" in dict(build_autoencoder(result, HTML).parts["facts"]).values()
    assert any(line.startswith("The features are not sparse among themselves: 40.8 of 51") for line in _said(result))
    assert not any("not sparse" in line for line in _said(audit))


def test_fidelity_is_told_for_both_splits(audit: AuditResult) -> None:
    table = build_autoencoder(audit, HTML).parts["fidelity"]
    assert [column.header for column in table.columns[1:]] == ["Held-out part of the fit split", "Audit split"]
    assert [cell.text for cell in table.rows[0]] == ["R² of the activations", "0.9560", "0.9570"]
    assert [cell.text.replace("\u00a0", " ") for cell in table.rows[3][1:]] == ["99.0 %", "99.1 %"]
    old = dataclasses.replace(audit, sae=dataclasses.replace(audit.sae, on_audit=None))
    assert build_autoencoder(old, HTML).parts["fidelity"].notes == (("a", "not measured in this audit"),)


def test_a_goal_missed_on_the_audit_split_alone_is_a_finding(audit: AuditResult) -> None:
    poor = dataclasses.replace(audit.sae, on_audit=SaeFidelity(0.85, 0.9, 0.8, 0.1))
    (said,) = [line for line in _said(dataclasses.replace(audit, sae=poor)) if "not on the audit images" in line]
    assert said.replace("\u00a0", " ").endswith("it keeps 88.9 % of the accuracy (goal 99 %) at R² 0.850 (goal 0.90).")


def test_redundancy_that_no_number_of_features_reaches(audit: AuditResult) -> None:
    sae = dataclasses.replace(audit.sae, n_dead=236)
    class_record = dataclasses.replace(audit.classes[0], feature_redundancy=None, feature_redundancy_limit=20)
    cell = feature_redundancy_cell(class_record, sae)
    assert isinstance(cell, Noted)
    assert cell.text == "none of 20"
    assert cell.note == "removing all 20 living features at α̂ = 1 does not bring the class to 50 %"
    assert feature_redundancy_cell(class_record, dataclasses.replace(sae, n_dead=235)) == "> 20"  # one was not tried
    assert feature_redundancy_cell(dataclasses.replace(class_record, feature_redundancy=3), sae) == "3"
    stuck = tuple(dataclasses.replace(c, feature_redundancy=None) for c in audit.classes)
    assert any(
        "Feature redundancy could not be measured here: removing all 20 living features" in line
        for line in _said(dataclasses.replace(audit, classes=stuck, sae=sae))
    )
    some = (dataclasses.replace(stuck[0], feature_redundancy=2), *stuck[1:])
    assert not any("Feature redundancy" in line for line in _said(dataclasses.replace(audit, classes=some, sae=sae)))


def test_null_controls_say_how_many_draws_they_are_of(audit: AuditResult) -> None:
    first = audit.classes[0]
    alone = dataclasses.replace(first, null=dataclasses.replace(first.null, n_random=0, random_p=None))
    both = trust_table(audit, [first, alone], HTML)
    assert [c.text for c in both.rows[0][1:3]] == ["21.3 (100)", "27.4 (38)"]
    assert both.rows[1][2].text == "–"
    assert "no other living feature to compare with" in dict(both.notes).values()


def test_names_are_cut_in_the_pdf_only(audit: AuditResult) -> None:
    many = dataclasses.replace(audit.classes[0], differs_from=tuple(f"other {i}" for i in range(9)))
    feature = dataclasses.replace(audit.features[1], affected=many.differs_from)
    result = dataclasses.replace(audit, classes=(many,), features=(feature,))
    for medium, cut in ((HTML, False), (PDF, True)):
        cells = [c.text for c in trust_table(result, [many], medium).rows[0]]
        cells += [c.text for c in build_effects(result, medium).parts["table"].rows[0]]
        assert sum("other 8" in text for text in cells) == (0 if cut else 2)
        assert sum("and 5 more" in text for text in cells) == (2 if cut else 0)


def test_enhancement_is_a_share_of_images(audit: AuditResult) -> None:
    class_record = dataclasses.replace(audit.classes[0], enhance=FlipSummary(None, None, None, 0.1203))
    table = trust_table(audit, [class_record], HTML)
    place = [column.header for column in table.columns].index("Enhanced into it")
    assert table.rows[0][place].text.replace("\u00a0", " ") == "12.0 %"


def test_thresholds_stand_in_both_units_with_what_is_censored(audit: AuditResult) -> None:
    first = next(info for info in audit.classes if info.name == "ship")
    table = thresholds_table([first], 10)
    assert [column.header for column in table.columns].count("α") == 4
    cells = [cell.text.replace("\u00a0", " ") for cell in table.rows[0]]
    assert cells[0] == "ship"
    assert cells[6] == "0.620"
    assert float(cells[7]) == pytest.approx(0.62 * first.alpha.analytical / first.alpha_hat.analytical, rel=5e-3)
    status = StatusCounts(6, 3, 1, 5)
    flip = dataclasses.replace(first.alpha_hat.flip, share=0.75)
    hat = dataclasses.replace(first.alpha_hat, flip=flip)
    numerical, never = censored_cells(dataclasses.replace(first, status=status, alpha_hat=hat, n_correct=80))
    assert (numerical, never) == ("40\u00a0%", "25\u00a0%")


def test_pdf_holds_no_hidden_tables(audit: AuditResult) -> None:
    assert build_effects(audit, PDF).parts["sweep_figure"].numbers is None
    assert build_effects(audit, HTML).parts["sweep_figure"].numbers is not None
    unswept = _unswept(audit)
    assert build_effects(unswept, PDF).parts["figure"].numbers is None
    assert build_effects(unswept, HTML).parts["figure"].numbers is not None


def test_autoencoder_says_whether_it_satisfies(audit: AuditResult, unpoliced: AuditResult) -> None:
    assert build_autoencoder(audit, HTML).parts["satisfied"] is True
    assert build_autoencoder(unpoliced, HTML).parts["satisfied"] is False


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "No rank correlation could be computed."),
        ([("feature_redundancy", 0.9, 0.01), ("accuracy", 0.1, 0.8)], "feature redundancy (at the head) (ρ = +0.90)"),
        ([("accuracy", -0.1, 0.8)], "None of the 1 statistic ranks"),
    ],
)
def test_demo_sentence(audit: AuditResult, rows: list[tuple[str, float, float]], sentence: str) -> None:
    assert audit.demo is not None
    truth = DemoTruth(audit.demo.classes, tuple(RankCorrelation(s, rho, p, 8) for s, rho, p in rows))
    assert sentence in build_demo(audit, truth, HTML).parts["sentence"]


def test_the_choice_between_variants_is_told_with_the_stability_of_each(audit: AuditResult) -> None:
    told = build_autoencoder(audit, HTML).parts["compared"].replace("\u00a0", " ")
    assert "2 variants" in told
    assert "linear-l1 with 256 latents (L0 27.0" in told
    assert "topk with 64 latents (L0 5.0" in told
    assert "latents of other seeds 0.61)" in told
    alone = dataclasses.replace(audit.sae, frontier=audit.sae.frontier[:6])
    assert build_autoencoder(dataclasses.replace(audit, sae=alone), HTML).parts["compared"] == ""


def test_a_factor_that_is_only_inserted_has_no_loss() -> None:
    inserted = FactorEffect("compression", 0.0, 0.0, 1.0, inserted=0.9, n_inserted=10)
    assert not inserted.is_removed
    part = _factor_part(inserted, 30, 0.5)
    assert (part.value, part.lane, part.inserted) == ("–", "", "90\xa0%")
    removed = _factor_part(FactorEffect("hue", 0.0, 0.0, 0.4, n=7), 7, 0.5)
    assert (removed.value, bool(removed.lane)) == ("0\xa0% (0–40)", True)


def test_a_short_pdf_has_the_first_rows_of_what_lists_features(audit: AuditResult) -> None:
    shared = next(feature for feature in audit.features if feature.sweep is not None)
    many = dataclasses.replace(audit, features=tuple(dataclasses.replace(shared, index=i) for i in range(30)))
    rows = {}
    for extent in ("full", "short"):
        view = build_view(many, PDF, Rendering(extent=extent))
        parts = next(section.parts for section in view.sections if section.anchor == "effects")
        rows[extent] = len(parts["table"].rows), len(parts["sweep_table"].rows), parts["table"].cut
    assert rows["full"] == (30, 30, "")
    assert rows["short"] == (8, 8, "The first 8 of 30 rows; all are in audit.json under features[].")


def test_a_recommendation_says_the_same_evidence_once_and_names_every_class() -> None:
    def advise(name: str, evidence: str) -> Advice:
        return Advice(name, evidence, "Add images.", "", "", "", 1)

    alike = tuple(advise(f"c{i}", f"found {i % 7}") for i in range(21))
    rows = [AdviceRow((), group[0], group) for group in _in_rows(alike, 5)]
    assert [row.evidence for row in rows] == [tuple(f"found {i}" for i in part) for part in (range(5), (5, 6))]
    assert sorted(each.class_name for row in rows for each in row.all) == sorted(each.class_name for each in alike)
