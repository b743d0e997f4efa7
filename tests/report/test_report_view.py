"""What the report says in words follows from the numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from salve_audit.config import METHODS
from salve_audit.gate.verdict import judge_flips
from salve_audit.report.numbers import percent, percent_interval
from salve_audit.report.tables import Noted
from salve_audit.report.view.autoencoder import build_autoencoder
from salve_audit.report.view.classes import raw_table, thresholds_table, trust_table
from salve_audit.report.view.demo import build_demo
from salve_audit.report.view.features import build_effects
from salve_audit.report.view.findings import FLAG_MEANINGS, findings
from salve_audit.report.view.front import build_banner, build_front, redundancy_cell
from salve_audit.report.view.interventions import build_interventions
from salve_audit.report.view.order import charted, flip_limit, fragile_first
from salve_audit.report.view.page import HTML, PDF
from salve_audit.report.view.ranking import compare_rome, headline, is_null, label, rank
from salve_audit.results import (
    AuditResult,
    DemoTruth,
    FeatureEffect,
    FeatureEffects,
    FlipSummary,
    InterventionResult,
    MethodSummary,
    RankCorrelation,
    Rule,
    SaeFidelity,
    Verdict,
)


def _row(method: str, name: str, others: float, reached: bool = True) -> InterventionResult:
    return InterventionResult(
        method=method,
        class_name=name,
        feature=None,
        strength=1.0,
        target_accuracy=0.05,
        reached_accuracy=0.05,
        reached=reached,
        others_accuracy=others,
        others_worst=others,
        kl=0.0,
        agreement=1.0,
        weight_change=0.1,
        area=0.9,
        low=others,
        high=others,
    )


def test_fragile_first_puts_unreached_and_empty_last(audit: AuditResult) -> None:
    order = fragile_first(audit.classes)
    medians = [one.alpha_hat.flip.median for one in order]
    known = [m for m in medians if m is not None]
    assert known == sorted(known)
    assert medians[: len(known)] == known
    assert [one.n for one in order][-1] == 0
    assert order[-2].n > 0


def test_charted_says_what_it_leaves_out(make_result: Callable[..., AuditResult]) -> None:
    shown, said = charted(make_result(100), 50)
    assert len(shown) == 50
    assert said == (
        "Shown are the 50 most fragile of 90 classes, by α̂ flip median. 10 classes have no audit pictures and no curve."
    )
    assert charted(make_result(2), 50)[1] == ""


def test_limit_is_the_gates(audit: AuditResult) -> None:
    assert flip_limit(audit.verdict) == 1.5
    assert flip_limit(Verdict(None, None, ())) is None
    assert audit.verdict.outcomes["ship"] == "fail"


def test_worst_outcome_of_several_rules_counts() -> None:
    rules = tuple(Rule("r", "a", 1.0, None, None, 2.0, outcome) for outcome in ("pass", "fail", "undecided"))
    assert Verdict(False, "p", rules).outcomes == {"a": "fail"}


@pytest.mark.parametrize(
    ("limit", "kind", "word"), [(None, "none", "No policy"), (1.5, "fail", "Fail"), (0.1, "pass", "Pass")]
)
def test_banner(make_result: Callable[..., AuditResult], limit: float | None, kind: str, word: str) -> None:
    banner = build_banner(make_result(10, limit=limit))
    assert (banner.kind, banner.word) == (kind, word)


def test_banner_without_a_judged_class(audit: AuditResult) -> None:
    thin = tuple(one for one in audit.classes if one.thin)
    banner = build_banner(dataclasses.replace(audit, classes=thin, verdict=judge_flips(thin, 1.5)))
    assert banner.word == "Not judged"
    assert "no class could be judged" in banner.sentence


def test_many_failures_are_counted(make_result: Callable[..., AuditResult]) -> None:
    sentence = build_banner(make_result(100)).sentence
    assert "10 classes violate it" in sentence
    assert sentence.endswith("; and 5 more.")


def test_front_is_cut_and_says_so(make_result: Callable[..., AuditResult]) -> None:
    front = build_front(make_result(30))
    assert len(front.table.rows) == 10
    assert front.table_note == "The 10 most fragile of 30 classes; all are in the section on classes."
    assert build_front(make_result(10)).table_note == ""


def test_findings_put_the_autoencoder_before_classes(unpoliced: AuditResult) -> None:
    found = findings(unpoliced)
    assert found[0].startswith("Code named by the user")
    assert found[1].startswith(
        "The autoencoder misses its goal: it keeps 99.0\u00a0% of the accuracy (goal 99 %) at R² 0.840"
    )


def test_every_flag_has_a_meaning(audit: AuditResult) -> None:
    used = {flag for one in audit.classes for flag in one.flags}
    assert used == set(FLAG_MEANINGS)


def _summary(
    method: str, others: float, gap: tuple[float, float, float] | None = None, reached: int = 9
) -> MethodSummary:
    value, low, high = gap or (None, None, None)
    common = 0 if gap is None else min(9, reached)
    return MethodSummary(method, 0.05, 10, reached, others, others - 0.01, others + 0.01, 0.9, common, value, low, high)


def _ranked(*rows: MethodSummary) -> tuple[str, str]:
    ((order, meaning),) = rank(rows)
    return order.replace("\u00a0", " "), meaning


def test_ranking_is_of_the_joint_means_with_their_intervals() -> None:
    order, meaning = _ranked(
        _summary("salve", 0.91, (-0.02, -0.025, -0.015)),
        _summary("row-scaling", 0.93, (0.0, 0.0, 0.0), reached=10),
        _summary("rome-cov", 0.97, reached=0),
        _summary("null-permuted", 0.99, (0.06, 0.05, 0.07)),
    )
    assert order == (
        "At 5 % accuracy of the class, the others keep on average over all classes (95 % interval, %): "
        "row scaling (trivial) 93.0 % (92.0–94.0), SALVE 91.0 % (90.0–92.0; reached in 9 of 10 classes). "
        "In no class brought there: ROME, covariance."
    )
    assert meaning == (
        "SALVE is number 2 of 2 by this mean. Plain row scaling, which needs no autoencoder, keeps more than SALVE "
        "over the 9 classes that both bring to the target (−2.0 points, 95 % interval −2.5 to −1.5)."
    )


@pytest.mark.parametrize(
    ("gap", "said"),
    [
        ((0.02, 0.01, 0.03), "SALVE keeps more than plain row scaling over the 9 classes"),
        (
            (-0.001, -0.004, 0.002),
            "no difference beyond chance over the 9 classes that both bring to the target (−0.1 po",
        ),
        ((0.01, 0.0, 0.02), "no difference beyond chance"),
        (None, "SALVE and plain row scaling reached the target on no common class."),
    ],
)
def test_salve_is_compared_with_row_scaling_by_the_paired_interval(
    gap: tuple[float, float, float] | None, said: str
) -> None:
    assert said in _ranked(_summary("salve", 0.9, gap), _summary("row-scaling", 0.9, (0.0, 0.0, 0.0)))[1]


def test_no_word_on_row_scaling_where_it_was_not_compared() -> None:
    assert _ranked(_summary("salve", 0.9), _summary("rome", 0.8))[1] == "SALVE is number 1 of 2 by this mean."


def test_the_headline_is_one_sentence_that_does_not_flatter() -> None:
    worse, even = (-0.02, -0.025, -0.015), (0.001, -0.004, 0.004)
    low = (
        _summary("salve", 0.91, worse),
        _summary("row-scaling", 0.93, (0.0, 0.0, 0.0)),
        _summary("leace", 0.95, reached=10),
        _summary("rome-cov", 0.97, reached=0),
        _summary("null-permuted", 0.99),
    )
    half = [dataclasses.replace(_summary("salve", 0.96, even), target_accuracy=0.5)]
    half.append(dataclasses.replace(_summary("row-scaling", 0.95, (0.0, 0.0, 0.0)), target_accuracy=0.5))
    assert headline([*low, *half]).replace("\u00a0", " ") == (
        "By the accuracy that the other classes keep, SALVE is number 1 of 2 methods where the class is at 50 % "
        "(96.0 %, with 9 of 10 classes brought there) and is number 3 of 3 methods where the class is at 5 % (91.0 %, "
        "with 9 of 10 classes brought there; LEACE keeps most, 95.0 %); row scaling, which is trivial and needs no "
        "autoencoder, is not told apart from it at 50 %, and keeps more than SALVE at 5 %."
    )
    assert "keeps less than SALVE at 5 %" in headline([_summary("salve", 0.9, (0.02, 0.01, 0.03)), low[1]])
    assert headline([_summary("salve", 0.9, reached=0)]).endswith("SALVE reaches 5 % in no class.")
    assert headline([]) == ""


def test_nothing_is_ranked_where_salve_reached_nothing() -> None:
    assert "SALVE brought no class to the target" in _ranked(_summary("salve", 0.9, reached=0))[1]
    assert rank([]) == ()


def test_the_tests_against_salve_are_told_with_their_intervals() -> None:
    def tested(method: str, gap: float, p: float) -> MethodSummary:
        found = {"n_common_salve": 9, "to_salve": gap, "to_salve_low": gap - 0.01, "to_salve_high": gap + 0.01}
        return dataclasses.replace(_summary(method, 0.9), **found, p_salve=p / 3, p_salve_holm=p)

    rows = [
        _summary("salve", 0.9),
        tested("row-scaling", 0.04, 0.02),
        tested("null-random", -0.3, 0.02),
        tested("leace", 0.005, 0.05),
    ]
    assert (
        "In paired tests on common classes, corrected by Holm, points over SALVE with 95 % interval: more than SALVE "
        "keep: row scaling (trivial) +4.0 (+3.0 to +5.0); less keep: null: random feature −30.0 (−31.0 to −29.0); "
        "not told apart from SALVE: LEACE."
    ) in _ranked(*rows)[1]


def test_every_method_has_a_row_beside_salve(audit: AuditResult) -> None:
    summary = tuple(
        dataclasses.replace(
            one,
            n_common_salve=8,
            to_salve=0.02,
            to_salve_low=0.01,
            to_salve_high=0.03,
            p_salve=0.004,
            p_salve_holm=0.04,
        )
        if one.method != "salve"
        else one
        for one in audit.intervention_summary
    )
    tables = build_interventions(dataclasses.replace(audit, intervention_summary=summary), HTML).parts["salve"]
    assert [table.caption[:14] for table in tables] == ["Class at 50 % ", "Class at 5 % a"]
    for table in tables:
        assert [row[0].text for row in table.rows] == [label(method) for method in METHODS if method != "salve"]
        assert [cell.text for cell in table.rows[0]][1:] == ["8", "+2.0", "+1.0 to +3.0", "0.004", "0.04", "yes"]
    assert build_interventions(audit, HTML).parts["salve"] == []  # of an audit.json from before


def test_rome_and_steering_are_compared_on_common_classes() -> None:
    near = [
        _row("rome", "a", 0.90),
        _row("steering", "a", 0.895),
        _row("rome", "b", 0.5),
        _row("steering", "b", 0, False),
    ]
    assert compare_rome(near).startswith("ROME and activation steering act alike here")
    assert "less that under steering is +0.5 points at 5 % (1 class)" in compare_rome(near)
    half = [dataclasses.replace(row, target_accuracy=0.5) for row in near]
    far = [_row("rome", "a", 0.90), _row("steering", "a", 0.86)]
    assert "do not act alike" in compare_rome([*half, *far])
    assert "+0.5 points at 50 % (1 class) and +4.0 points at 5 % (1 class)" in compare_rome([*half, *far])
    assert compare_rome(near[:1]) == ""


def test_one_quantity_has_one_value_in_the_comparison(audit: AuditResult) -> None:
    """Table, figure and sentence take others' accuracy from the joint summary; the area stands once per method."""
    parts = build_interventions(audit, HTML).parts
    sentences = " ".join(text for pair in parts["ranking"] for text in pair)
    figure = str(parts["figure"].charts[0].svg)
    for table, target in zip(parts["summary"], (0.5, 0.05), strict=True):
        assert table.caption.startswith(f"Class at {100 * target:g} % accuracy")
        own = [one for one in audit.intervention_summary if one.target_accuracy == target]
        for row, one in zip(table.rows, own, strict=True):
            assert row[2].text == percent(one.others_accuracy)
            assert row[3].text == percent_interval(one.low, one.high)
            if not is_null(one.method):
                assert f"{label(one.method)} {row[2].text} ({row[3].text}" in sentences
        assert "area" not in " ".join(column.header.lower() for column in table.columns)
    assert [row[0].text for row in parts["area"].rows] == [label(method) for method in METHODS]
    assert "95 % interval" in figure
    assert "mean of the" not in figure


def test_an_older_audit_is_not_compared(audit: AuditResult) -> None:
    parts = build_interventions(dataclasses.replace(audit, intervention_summary=()), HTML).parts
    assert parts["any"]
    assert parts["figure"] is None
    assert parts["each"].rows


def _unswept(audit: AuditResult) -> AuditResult:
    """As an earlier version wrote it."""
    features = tuple(dataclasses.replace(one, sweep=None) for one in audit.features)
    return dataclasses.replace(audit, features=features, stress=None)


def test_entanglement_is_named(audit: AuditResult) -> None:
    lines = build_effects(_unswept(audit), HTML).parts["entangled"]
    assert lines[0] == "Feature 4: suppressed at α̂ = 1, automobile changes by −22.5 and truck by +10.5 points."


def test_entanglement_is_told_of_affected_classes_at_the_strength_that_was_tested(audit: AuditResult) -> None:
    """A class that happens to move more, or only at another strength, is not named."""
    one = next(f for f in _unswept(audit).features if f.entangled)
    loud = list(one.effect.suppress[1].accuracy_change)
    loud[2] = -0.9  # bird: not significant
    suppress = (one.effect.suppress[0], FeatureEffect(1.0, tuple(loud)), one.effect.suppress[2])
    changed = dataclasses.replace(one, effect=FeatureEffects(suppress, one.effect.enhance))
    result = dataclasses.replace(audit, features=(changed,))
    (line,) = build_effects(result, HTML).parts["entangled"]
    assert line == "Feature 4: suppressed at α̂ = 1, automobile changes by −22.5 and truck by +10.5 points."
    untested = dataclasses.replace(changed, effect=FeatureEffects(suppress[:1], ()))
    (bare,) = build_effects(dataclasses.replace(audit, features=(untested,)), HTML).parts["entangled"]
    assert bare == "Feature 4: automobile and truck in opposite directions."


def test_active_latents_are_told_of_the_living_ones(audit: AuditResult) -> None:
    dense = dataclasses.replace(audit.sae, n_latents=256, n_dead=205, l0=40.83)
    result = dataclasses.replace(audit, sae=dense)
    assert "40.8 of 51 living latents active per picture" in dict(build_front(result).facts)["Autoencoder"]
    assert (
        "40.8 of 51 living latents active per picture" in dict(build_autoencoder(result, HTML).parts["facts"]).values()
    )
    assert any(line.startswith("The features are not sparse among themselves: 40.8 of 51") for line in findings(result))
    assert not any("not sparse" in line for line in findings(audit))


def test_fidelity_is_told_for_both_splits(audit: AuditResult) -> None:
    table = build_autoencoder(audit, HTML).parts["fidelity"]
    assert [column.header for column in table.columns[1:]] == ["Held-out part of the fit split", "Audit split"]
    assert [cell.text for cell in table.rows[0]] == ["R² of the activations", "0.9560", "0.9570"]
    assert [cell.text.replace("\u00a0", " ") for cell in table.rows[3][1:]] == ["99.0 %", "99.1 %"]
    assert "R² 0.957 (audit pictures)" in dict(build_front(audit).facts)["Autoencoder"]
    old = dataclasses.replace(audit, sae=dataclasses.replace(audit.sae, on_audit=None))
    assert "R² 0.956 (held-out fit pictures)" in dict(build_front(old).facts)["Autoencoder"]
    assert build_autoencoder(old, HTML).parts["fidelity"].notes == (("a", "not measured in this audit"),)


def test_a_goal_missed_on_the_audit_split_alone_is_a_finding(audit: AuditResult) -> None:
    poor = dataclasses.replace(audit.sae, on_audit=SaeFidelity(0.85, 0.9, 0.8, 0.1))
    (said,) = [line for line in findings(dataclasses.replace(audit, sae=poor)) if "not on the audit pictures" in line]
    assert said.replace("\u00a0", " ").endswith("it keeps 88.9 % of the accuracy (goal 99 %) at R² 0.850 (goal 0.9).")


def test_redundancy_that_no_number_of_features_reaches(audit: AuditResult) -> None:
    sae = dataclasses.replace(audit.sae, n_dead=236)
    one = dataclasses.replace(audit.classes[0], redundancy=None, redundancy_limit=20)
    cell = redundancy_cell(one, sae)
    assert isinstance(cell, Noted)
    assert cell.text == "none of 20"
    assert cell.note == "removing all 20 living features at α̂ = 1 does not bring the class to 50 %"
    assert redundancy_cell(one, dataclasses.replace(sae, n_dead=235)) == "> 20"  # one was not tried
    assert redundancy_cell(dataclasses.replace(one, redundancy=3), sae) == "3"
    stuck = tuple(dataclasses.replace(c, redundancy=None) for c in audit.classes)
    assert any(
        "Redundancy could not be measured here: removing all 20 living features" in line
        for line in build_front(dataclasses.replace(audit, classes=stuck, sae=sae)).warnings
    )
    some = (dataclasses.replace(stuck[0], redundancy=2), *stuck[1:])
    assert not any("Redundancy" in line for line in findings(dataclasses.replace(audit, classes=some, sae=sae)))


def test_null_controls_say_how_many_draws_they_are_of(audit: AuditResult) -> None:
    first = audit.classes[0]
    alone = dataclasses.replace(first, null=dataclasses.replace(first.null, n_random=0, random_p=None))
    both = trust_table(audit, [first, alone], HTML)
    assert [c.text for c in both.rows[0][2:4]] == ["21.3 (100)", "27.4 (38)"]
    assert both.rows[1][3].text == "–"
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


def test_enhancement_is_a_share_of_pictures(audit: AuditResult) -> None:
    one = dataclasses.replace(audit.classes[0], enhance=FlipSummary(None, None, None, 0.1203))
    table = thresholds_table([one], 10)
    assert table.columns[-1].header == "Enhanced into it"
    assert table.rows[0][-1].text.replace("\u00a0", " ") == "12.0 %"


def test_alpha_is_not_called_the_papers(audit: AuditResult) -> None:
    assert raw_table(audit.classes, 10).caption == "The same thresholds as α for unit-norm directions"


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
        ([("redundancy", 0.9, 0.01), ("accuracy", 0.1, 0.8)], "redundancy at the head (ρ = +0.90)"),
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
