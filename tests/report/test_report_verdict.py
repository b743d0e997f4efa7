"""The banner: distinct classes, every broken rule by its name, worst first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from report_reliance import build_scenario, judged

from salve_audit.report.numbers import unmarked
from salve_audit.report.view.verdict import build_banner, worst_first
from salve_audit.results import AuditResult, Rule, Verdict


@pytest.mark.parametrize(("limit", "kind", "word"), [(1.5, "fail", "Fail"), (0.1, "pass", "Pass")])
def test_banner(make_result: Callable[..., AuditResult], limit: float, kind: str, word: str) -> None:
    banner = build_banner(make_result(10, limit=limit).verdict)
    assert banner is not None
    assert (banner.kind, banner.word) == (kind, word)


def test_without_a_policy_there_is_no_banner(make_result: Callable[..., AuditResult]) -> None:
    assert build_banner(make_result(10, limit=None).verdict) is None


def test_banner_without_a_judged_class(audit: AuditResult) -> None:
    thin = tuple(info for info in audit.classes if info.thin)
    banner = build_banner(judged(dataclasses.replace(audit, classes=thin), fail_under=1.5).verdict)
    assert banner is not None
    assert (banner.kind, banner.word) == ("none", "Not judged")
    assert "no class could be judged" in banner.sentence


def test_several_limits_count_each_class_once_and_name_each_rule() -> None:
    verdict = build_scenario("failing").verdict
    failed = [rule for rule in verdict.rules if rule.outcome == "fail"]
    n = len({rule.class_name for rule in failed})
    assert len(failed) > n  # some class breaks two of the three
    banner = build_banner(verdict)
    assert banner is not None
    assert banner.sentence.endswith(f"{n} classes break it:")
    assert len(banner.violations) == 5
    texts = " ".join(violation.text for violation in banner.violations)
    assert "limit" in texts
    assert "below" not in texts
    assert banner.more == f"and {len(failed) - 5} more violations; see the classes"


def test_shares_are_percents_and_strengths_are_not() -> None:
    rules = (
        Rule("image reliance at most", "a", 0.92, 0.85, 0.96, 0.5, "fail"),
        Rule("alpha_hat flip median at least", "b", 0.62, 0.54, 0.71, 1.5, "fail"),
    )
    banner = build_banner(Verdict(False, "p", rules))
    assert banner is not None
    said = [violation.text.replace("\u00a0", " ") for violation in banner.violations]
    assert said == ["image reliance 92 % (85–96 %), limit 50 %", "α̂ flip median 0.620 (0.540 to 0.710), limit 1.50"]


def test_the_worst_comes_first_whatever_its_measure() -> None:
    mild = Rule("image reliance at most", "mild", 0.6, 0.52, 0.7, 0.5, "fail")
    bad = Rule("alpha_hat flip median at least", "bad", 0.1, 0.05, 0.2, 1.5, "fail")
    unreached = Rule("redundancy in the image at least", "odd", None, 1.0, 1.0, 2.0, "fail")
    assert [rule.class_name for rule in worst_first([mild, unreached, bad])] == ["bad", "odd", "mild"]


def test_undecided_classes_are_named_by_limit() -> None:
    rules = (
        Rule("image reliance at most", "a", 0.5, 0.4, 0.6, 0.5, "undecided"),
        Rule("alpha_hat flip median at least", "a", 2.0, 1.9, 2.1, 1.5, "pass"),
        Rule("alpha_hat flip median at least", "b", None, None, None, 1.5, "thin"),
    )
    banner = build_banner(Verdict(True, "p", rules))
    assert banner is not None
    assert [unmarked(line) for line in banner.details] == [
        "Undecided for image reliance, which does not fail: a.",
        "Not judged for α̂ flip median (not measured, or too few images): b.",
    ]


def test_what_is_exempt_is_named_and_does_not_fail() -> None:
    rule = Rule("image reliance at most", "a", 0.9, 0.8, 0.95, 0.5, "fail", "exempt", why="accepted until 2027: known")
    banner = build_banner(Verdict(True, "p", (rule,)))
    assert banner is not None
    assert banner.kind == "pass"
    (said,) = [unmarked(line).replace("\u00a0", " ") for line in banner.details]
    assert said == "Exempt: a, image reliance 90 % (80–95 %), limit 50 %. Accepted until 2027: known."


def test_problems_come_before_everything() -> None:
    banner = build_banner(Verdict(None, "p", (), ("the autoencoder misses its goal",)))
    assert banner is not None
    assert banner.word == "Not judged"
    assert "The autoencoder misses its goal." in banner.sentence
