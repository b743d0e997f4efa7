"""A second look: which classes get more images, and what having looked twice costs in confidence."""

from __future__ import annotations

import dataclasses

import pytest
from gate_audits import of_class, policy, sample, with_class

from salve_audit.config import AuditConfig
from salve_audit.errors import UsageError
from salve_audit.gate.deciding import choose_images, foresee_second_look
from salve_audit.gate.estimates import Estimate, allow_for, at_confidence
from salve_audit.gate.verdict import judge
from salve_audit.results import AuditResult, Rule

UNDECIDED = "max_image_reliance = 0.46"  # castle, whose reliance is 0.39 [0.3, 0.49] of 100 images; 200 are there


def examined(result: AuditResult, name: str, **changes: int) -> AuditResult:
    reliance = of_class(result, name).image_reliance
    assert reliance is not None
    return with_class(result, name, image_reliance=dataclasses.replace(reliance, **changes))


def rule_of(result: AuditResult, text: str, name: str = "castle") -> Rule:
    return next(rule for rule in judge(result, policy(text)).rules if rule.class_name == name)


def test_undecided_classes_get_the_images_that_would_decide() -> None:
    foreseen = judge(sample(), foresee_second_look(policy(UNDECIDED)))
    assert {rule.class_name for rule in foreseen.rules if rule.outcome == "undecided"} == {"castle"}
    assert choose_images(foreseen, sample()) == {"castle": 200}
    assert choose_images(judge(sample(), policy("max_image_reliance = 0.52")), sample()) == {}
    assert choose_images(judge(sample(), policy("max_image_reliance = 0.395")), sample()) == {}  # thousands would


def test_no_image_is_spent_on_classes_that_fail_anyway() -> None:
    text = f"{UNDECIDED}\n[classes.castle]\nmin_redundancy = 2"
    assert choose_images(judge(sample(), foresee_second_look(policy(text))), sample()) == {}


def test_nor_where_there_are_none_left() -> None:
    spent = examined(sample(), "castle", n=200, n_correct=180)
    assert choose_images(judge(spent, policy(UNDECIDED)), spent) == {}


def test_undecided_classes_say_that_more_images_are_there() -> None:
    assert rule_of(sample(), UNDECIDED).why.endswith("; 100 more are there, an audit with --decide uses them")
    assert "--decide" not in rule_of(sample(), "max_image_reliance = 0.395").why


def test_two_looks_err_as_seldom_as_one() -> None:
    assert allow_for(0.95, 1) == 0.95
    assert allow_for(0.95, 2) == pytest.approx(0.975)
    one = Estimate(0.4, 0.3, 0.5, 100)
    two = at_confidence(dataclasses.replace(one, looks=2), 0.95)
    assert at_confidence(one, 0.95) == one
    assert (two.low, two.high) == (pytest.approx(0.4 - 0.1 * 2.2414 / 1.96, abs=1e-4), pytest.approx(0.5144, abs=1e-3))


def test_a_class_that_was_examined_twice_is_judged_more_strictly_and_named() -> None:
    text = "max_image_reliance = 0.295"
    assert rule_of(sample(), text).outcome == "fail"
    again = examined(sample(), "castle", examinations=2)
    assert rule_of(again, text).outcome == "undecided"
    verdict = judge(again, policy(text))
    assert verdict.notes == (
        "examined a second time, since the first did not decide: castle (100 images); judged at a confidence of 0.975",
    )
    assert judge(again, policy("min_alpha_hat = 1")).notes == ()


def test_deciding_needs_a_rule_on_the_image() -> None:
    with pytest.raises(UsageError, match="decide: there is no rule on what is measured in the image"):
        AuditConfig(model="m.pt", data="d", decide=True, fail_under=1.0)
    assert AuditConfig(model="m.pt", data="d", decide=True, fail_over_reliance=0.5).decide
