"""The gate on hand-made classes: fail, undecided, pass, thin, nothing judged."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from salve_audit.gate.verdict import fragile_classes, judge_flips


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
    return {rule.class_name: rule.outcome for rule in judge_flips(classes, 1.5).rules}


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
    verdict = judge_flips([FRAGILE, UNDECIDED, SOUND, THIN], 1.5)
    assert verdict.passed is False
    assert fragile_classes(verdict) == ("fragile",)
    assert judge_flips([UNDECIDED, SOUND, THIN], 1.5).passed is True


def test_an_interval_that_ends_at_the_limit_does_not_fail() -> None:
    assert outcomes(make_class("edge", Flip(1.2, 1.0, 1.5))) == {"edge": "undecided"}
    assert outcomes(make_class("edge", Flip(1.7, 1.5, 2.0))) == {"edge": "pass"}


@pytest.mark.parametrize("classes", [[], [THIN]])
def test_nothing_judged_is_no_pass(classes: list[SimpleNamespace]) -> None:
    assert judge_flips(classes, 1.5).passed is None


def test_without_a_limit_there_is_no_verdict() -> None:
    verdict = judge_flips([FRAGILE], None)
    assert (verdict.passed, verdict.policy, verdict.rules) == (None, None, ())
