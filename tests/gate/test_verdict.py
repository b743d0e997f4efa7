"""The gate on hand-made classes: fail, undecided, pass, thin, nothing judged."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from salve_audit.errors import UsageError
from salve_audit.gate.limits import Limits
from salve_audit.gate.verdict import judge
from salve_audit.results import ImageReliance


@dataclass(frozen=True)
class Flip:
    median: float | None
    low: float | None
    high: float | None


def make_class(name: str, flip: Flip, thin: bool = False) -> SimpleNamespace:
    return SimpleNamespace(
        name=name, thin=thin, alpha_hat=SimpleNamespace(flip=flip), judged_interval=(flip.low, flip.high)
    )


FRAGILE = make_class("fragile", Flip(1.0, 0.9, 1.1))
UNDECIDED = make_class("undecided", Flip(1.4, 1.2, 1.7))
SOUND = make_class("sound", Flip(3.0, 2.5, 3.5))
UNREACHED = make_class("unreached", Flip(None, 4.0, None))
OPEN = make_class("open", Flip(1.4, 1.2, None))
THIN = make_class("thin", Flip(0.1, 0.1, 0.2), thin=True)


def outcomes(*classes: SimpleNamespace) -> dict[str, str]:
    return {rule.class_name: rule.outcome for rule in judge(classes, Limits(1.5)).rules}


def test_outcomes() -> None:
    assert outcomes(FRAGILE, UNDECIDED, SOUND, UNREACHED, OPEN, THIN) == {
        "fragile": "fail",
        "undecided": "undecided",
        "sound": "pass",
        "unreached": "pass",
        "open": "undecided",
        "thin": "thin",
    }


def test_only_fragile_classes_fail() -> None:
    verdict = judge([FRAGILE, UNDECIDED, SOUND, THIN], Limits(1.5))
    assert verdict.passed is False
    assert {rule.class_name for rule in verdict.rules if rule.outcome == "fail"} == {"fragile"}
    assert judge([UNDECIDED, SOUND, THIN], Limits(1.5)).passed is True


def test_an_interval_that_ends_at_the_limit_does_not_fail() -> None:
    assert outcomes(make_class("edge", Flip(1.2, 1.0, 1.5))) == {"edge": "undecided"}
    assert outcomes(make_class("edge", Flip(1.7, 1.5, 2.0))) == {"edge": "pass"}


@pytest.mark.parametrize("classes", [[], [THIN]])
def test_nothing_judged_is_no_pass(classes: list[SimpleNamespace]) -> None:
    assert judge(classes, Limits(1.5)).passed is None


def test_without_a_limit_there_is_no_verdict() -> None:
    verdict = judge([FRAGILE], Limits(None))
    assert (verdict.passed, verdict.policy, verdict.rules) == (None, None, ())


def in_image(
    name: str, reliance: tuple[float, float, float], redundancy: tuple[int | None, ...], thin: bool = False
) -> SimpleNamespace:
    record = ImageReliance(
        n=50,
        n_correct=45,
        reliance=reliance[0],
        low=reliance[1],
        high=reliance[2],
        kind="region",
        concept=0,
        redundancy=redundancy[0],
        redundancy_low=redundancy[1],
        redundancy_high=redundancy[2],
        redundancy_limit=5,
        chance=0.02,
        thin=thin,
    )
    class_record = make_class(name, Flip(3.0, 2.5, 3.5))
    class_record.image_reliance = record
    return class_record


SINGLE = in_image("single", (0.95, 0.9, 0.98), (1, 1, 1))
DOUBTFUL = in_image("doubtful", (0.55, 0.4, 0.7), (2, 1, 3))
ROBUST = in_image("robust", (0.05, 0.0, 0.1), (None, None, None))
FEW = in_image("few", (1.0, 0.5, 1.0), (1, 1, 1), thin=True)


def test_reliance_that_random_places_reach_as_well_does_not_fail() -> None:
    reliance_record = dataclasses.replace(
        SINGLE.image_reliance, reliance=0.62, low=0.53, high=0.71, chance=0.6, chance_low=0.5, chance_high=0.69
    )
    by_chance = SimpleNamespace(**{**vars(SINGLE), "image_reliance": reliance_record})
    less = dataclasses.replace(reliance_record, chance=0.1, chance_low=0.05, chance_high=0.2)
    beyond = SimpleNamespace(**{**vars(SINGLE), "image_reliance": less})
    limits = Limits(fail_over_reliance=0.5)
    assert [rule.outcome for rule in judge([by_chance], limits).rules] == ["undecided"]
    assert [rule.outcome for rule in judge([beyond], limits).rules] == ["fail"]


@pytest.mark.parametrize("limits", [Limits(fail_under_redundancy=2), Limits(fail_over_reliance=0.5)])
def test_limits_in_the_image_are_judged_by_the_whole_interval(limits: Limits) -> None:
    verdict = judge([SINGLE, DOUBTFUL, ROBUST, FEW], limits)
    assert [rule.outcome for rule in verdict.rules] == ["fail", "undecided", "pass", "thin"]
    assert verdict.passed is False
    assert judge([DOUBTFUL, ROBUST], limits).passed is True


def test_what_was_not_measured_in_the_image_does_not_pass() -> None:
    missing = make_class("missing", Flip(3.0, 2.5, 3.5))
    missing.image_reliance = None
    for limits in (Limits(fail_over_reliance=0.5), Limits(1.5, fail_under_redundancy=2)):
        assert judge([missing], limits).passed is None  # though its flip median is sound
    beyond = judge([ROBUST], Limits(fail_under_redundancy=6))  # more than were removed
    assert [rule.outcome for rule in beyond.rules] == ["thin"]


def test_several_limits_each_have_a_rule_per_class_and_the_worst_outcome_counts() -> None:
    verdict = judge([SINGLE, ROBUST], Limits(2.6, 2, 0.5))
    assert verdict.policy == "fail under 2.6; fail under a redundancy of 2; fail over an image reliance of 0.5"
    assert len(verdict.rules) == 6
    assert verdict.outcomes == {"single": "fail", "robust": "undecided"}
    assert {rule.class_name for rule in verdict.rules if rule.outcome == "fail"} == {"single"}


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"fail_under": float("nan")}, "fail_under: nan is not a positive number"),
        ({"fail_under_redundancy": 0}, "fail_under_redundancy: 0 is below 1"),
        ({"fail_over_reliance": 1.5}, "fail_over_reliance: 1.5 is not between 0 and 1"),
    ],
)
def test_limits_out_of_range_are_refused(limits: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Limits(**limits)
    assert str(caught.value) == message
