"""Outcomes of rules on classes: fail, undecided, pass, thin, and what the policy makes of them."""

from __future__ import annotations

import dataclasses

import pytest
from gate_audits import of_class, policy, sample, with_class

from salve_audit.errors import UsageError
from salve_audit.gate.policy import Policy, tighten
from salve_audit.gate.rules import check_limit
from salve_audit.gate.verdict import judge
from salve_audit.results import AuditResult, FactorEffect, FlipSummary, Rule, Verdict


def flips(result: AuditResult, name: str, median: float, low: float, high: float | None) -> AuditResult:
    record = of_class(result, name)
    flip = FlipSummary(median, low, high, 1.0)
    quantiles = tuple(dataclasses.replace(part, quantiles=(None,) * 21) for part in record.distributions)
    alpha_hat = dataclasses.replace(record.alpha_hat, flip=flip)
    return with_class(result, name, alpha_hat=alpha_hat, seeds=None, distributions=quantiles)


def outcome(verdict: Verdict, name: str) -> tuple[str, str]:
    (rule,) = [rule for rule in verdict.rules if rule.class_name == name]
    return rule.outcome, rule.effect


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((1.0, 0.9, 1.1), ("fail", "fail")),
        ((1.4, 1.2, 1.7), ("undecided", "warn")),
        ((3.0, 2.5, 3.5), ("pass", "pass")),
        ((1.4, 1.2, None), ("undecided", "warn")),
        ((1.2, 1.0, 1.5), ("undecided", "warn")),  # an interval that ends at the limit does not fail
        ((1.7, 1.5, 2.0), ("pass", "pass")),
    ],
)
def test_the_interval_decides(interval: tuple[float, float, float | None], expected: tuple[str, str]) -> None:
    verdict = judge(flips(sample(), "castle", *interval), policy("min_alpha_hat = 1.5"))
    assert outcome(verdict, "castle") == expected


def test_without_a_rule_there_is_no_verdict() -> None:
    verdict = judge(sample(), Policy())
    assert (verdict.passed, verdict.policy, verdict.rules, verdict.exit_code) == (None, None, (), 0)


@pytest.mark.parametrize(
    ("rule", "failing"),
    [
        ("max_image_reliance = 0.5", {"chapel", "clinic", "ember", "ripple"}),
        ("min_redundancy = 2", {"castle", "chapel", "clinic", "ember", "ripple"}),
        ("min_alpha_hat = 1.4", {"pair"}),
        ("max_global_factor = { colour = 0.05 }", {"castle"}),
        ("max_global_factor = 0.05", {"castle"}),
        ("max_null_p = 0.1", {"trio"}),
    ],
)
def test_rules_of_classes(rule: str, failing: set[str]) -> None:
    verdict = judge(sample(), policy(rule))
    failed = {part.class_name for part in verdict.by_effect("fail")}
    assert failing <= failed
    if "factor" not in rule:
        assert failed == failing
    assert verdict.exit_code == 1


def test_damage_to_other_classes_is_read_where_the_class_is_gone() -> None:
    verdict = judge(sample(), policy("max_cross_class_damage = 0.0\nmin_judged = 1"))
    edit = next(edit for edit in sample().interventions if (edit.method, edit.class_name) == ("salve", "castle"))
    others = [class_info for class_info in sample().classes if class_info.name != "castle"]
    before = sum(class_info.n_correct for class_info in others) / sum(class_info.n for class_info in others)
    rule = next(rule for rule in verdict.rules if rule.class_name == "castle")
    last = next(
        edit
        for edit in sample().interventions
        if (edit.method, edit.class_name, edit.target_accuracy) == ("salve", "castle", 0.05)
    )
    assert edit.target_accuracy == 0.5
    assert rule.value == pytest.approx(before - last.others_accuracy)
    assert (rule.low, rule.high) == (pytest.approx(before - last.high), pytest.approx(before - last.low))


def test_switches() -> None:
    unstable = with_class(sample(), "pair", stable=False)
    verdict = judge(unstable, policy("require_stable = true"))
    assert [rule.class_name for rule in verdict.by_effect("fail")] == ["pair"]
    unmeasured = with_class(sample(), "pair", image_reliance=None)
    verdict = judge(unmeasured, policy("require_measured = true"))
    assert [rule.class_name for rule in verdict.by_effect("fail")] == ["pair"]
    assert judge(unmeasured, policy("require_measured = false\nmin_alpha_hat = 1")).exit_code == 0


def test_the_share_of_fragile_classes_decides_in_place_of_each() -> None:
    rules = "max_image_reliance = 0.5\nmax_fragile_share = "  # four of eight are fragile
    for limit, code in (("0.5", 0), ("0.4", 1)):
        verdict = judge(sample(), policy(rules + limit))
        assert verdict.exit_code == code
        assert [rule.class_name for rule in verdict.by_effect("fail")] == ([""] if code else [])
        assert len([rule for rule in verdict.by_effect("warn") if rule.outcome == "fail"]) == 4
    doubtful = judge(sample(), policy("max_image_reliance = 0.45\nmax_fragile_share = 0.5"))
    share = doubtful.rules[-1]
    assert (share.value, share.high, share.outcome) == (0.5, 0.625, "undecided")  # castle may be the fifth


def test_severities_and_words_for_undecided() -> None:
    warned = judge(sample(), policy('max_image_reliance = { limit = 0.5, severity = "warning" }'))
    assert warned.exit_code == 0
    assert len(warned.by_effect("warn")) == 4
    for word, code, effect in (("warn", 0, "warn"), ("fail", 1, "fail"), ("pass", 0, "pass")):
        verdict = judge(
            sample(),
            policy(f'max_image_reliance = 0.4\non_undecided = "{word}"\n[classes."[!c]*"]\nmax_image_reliance = 1'),
        )
        undecided = [rule for rule in verdict.rules if rule.outcome == "undecided"]
        assert {rule.effect for rule in undecided} == {effect}
        assert (verdict.exit_code == 1) == (code == 1 or bool([r for r in verdict.rules if r.outcome == "fail"]))


def test_words_for_thin_classes() -> None:
    record = of_class(sample(), "castle").image_reliance
    assert record is not None
    few = with_class(sample(), "castle", image_reliance=dataclasses.replace(record, n=12, n_correct=12, thin=True))
    for word, code, effect in (("warn", 0, "warn"), ("fail", 1, "fail"), ("skip", 0, "skip")):
        verdict = judge(few, policy(f'max_image_reliance = 1.0\non_thin = "{word}"'))
        assert (verdict.exit_code, outcome(verdict, "castle")) == (code, ("thin", effect))


def test_overrides_by_glob_and_name() -> None:
    text = 'max_image_reliance = 0.5\n[classes."c*"]\nmax_image_reliance = 0.9\n'
    text += "[classes.clinic]\nmax_image_reliance = false\n"
    verdict = judge(sample(), policy(text))
    limits = {rule.class_name: rule.limit for rule in verdict.rules}
    assert "clinic" not in limits
    assert (limits["castle"], limits["chapel"], limits["ember"]) == (0.9, 0.9, 0.5)
    swapped = '[classes.castle]\nmin_alpha_hat = 9\n[classes."c*"]\nmin_alpha_hat = 1\n'  # a name beats a later glob
    limits = {rule.class_name: rule.limit for rule in judge(sample(), policy(swapped)).rules}
    assert (limits["castle"], limits["chapel"]) == (9, 1)


def test_an_exception_exempts_its_rule_of_its_classes_alone() -> None:
    text = (
        'max_image_reliance = 0.5\nmin_alpha_hat = 1.4\n[[exceptions]]\nclass = "*"\nrule = "max_image_reliance"\n'
        'reason = "retrained in May"\nuntil = 2999-01-01\n'
    )
    verdict = judge(sample(), policy(text))
    assert {rule.key for rule in verdict.by_effect("exempt")} == {"max_image_reliance"}
    assert "accepted until 2999-01-01: retrained in May" in verdict.by_effect("exempt")[0].why
    assert [(rule.key, rule.class_name) for rule in verdict.by_effect("fail")] == [("min_alpha_hat", "pair")]


def test_another_confidence_moves_the_bounds() -> None:
    ordinary = judge(sample(), policy("max_image_reliance = 0.31"))
    sure = judge(sample(), policy("max_image_reliance = 0.31\nconfidence = 0.8"))
    assert outcome(ordinary, "castle") == ("undecided", "warn")
    assert outcome(sure, "castle") == ("fail", "fail")


def test_redundancy_beyond_what_was_removed_cannot_be_judged() -> None:
    verdict = judge(sample(), policy("min_redundancy = 9\nmin_judged = 1"))
    assert outcome(verdict, "plain")[0] == "thin"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("fail_under", float("nan"), "fail_under: nan is not a positive number"),
        ("fail_under_redundancy", 0, "fail_under_redundancy: 0 is below 1"),
        ("fail_over_reliance", 1.5, "fail_over_reliance: 1.5 is not between 0 and 1"),
    ],
)
def test_limits_out_of_range_are_refused(option: str, value: float, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_limit(option, value)
    assert str(caught.value) == message


def test_flags_are_shorthands_for_rules() -> None:
    limits = {"fail_under": 1.4, "fail_under_redundancy": 2, "fail_over_reliance": 0.5}
    by_flags = judge(sample(), tighten(Policy(), limits))
    by_file = judge(sample(), policy("min_alpha_hat = 1.4\nmin_redundancy = 2\nmax_image_reliance = 0.5"))
    assert {(rule.key, rule.class_name, rule.outcome) for rule in by_flags.rules} == {
        (rule.key, rule.class_name, rule.outcome) for rule in by_file.rules
    }


def test_rules_of_older_files_have_the_effect_of_their_outcome() -> None:
    effects = [
        Rule("r", "a", 1.0, None, None, 2.0, outcome).effect for outcome in ("fail", "undecided", "thin", "pass")
    ]
    assert effects == ["fail", "warn", "skip", "pass"]


def test_a_factor_that_was_screened_alone_never_fails_and_one_that_was_not_removed_is_not_judged() -> None:
    reliance = of_class(sample(), "castle").image_reliance
    assert reliance is not None

    def with_factor(removed: float, low: float, high: float, n: int) -> AuditResult:
        factor = FactorEffect("hue", removed, low, high, chance=0.0, kind="colour", n=n, excess=0.0, excess_low=low)
        return with_class(sample(), "castle", image_reliance=dataclasses.replace(reliance, factors=(factor,)))

    named = "[classes.castle]\nmax_global_factor = {{ hue = {} }}"
    for result, limit, expected in (
        (with_factor(0.0, 0.0, 0.61, 7), 0.3, ("thin", "skip", 0)),  # as weak factors are: no warning each
        (with_factor(0.0, 0.0, 0.61, 7), 0.7, ("pass", "pass", 0)),
        (with_factor(1.0, 0.39, 1.0, 7), 0.3, ("thin", "warn", 0)),
        (with_factor(1.0, 0.8, 1.0, 30), 0.3, ("fail", "fail", 1)),
        (with_factor(0.0, 0.0, 1.0, 0), 0.3, ("thin", "error", 2)),
    ):
        for on_thin in ("warn", "fail"):
            verdict = judge(result, policy(f'on_thin = "{on_thin}"\n' + named.format(limit)))
            assert (*outcome(verdict, "castle"), verdict.exit_code) == expected
    unnamed = judge(with_factor(0.0, 0.0, 1.0, 0), policy("[classes.castle]\nmax_global_factor = 0.3"))
    assert unnamed.exit_code == 2
    assert "no global factor was removed from images" in unnamed.problems[0]
