"""Policy files: every wrong key is named with its path and line, and what is written by --init is read back."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from gate_audits import of_class, policy, sample, save, with_class, without_classes

from salve_audit.cli.app import run
from salve_audit.errors import UsageError
from salve_audit.gate.audit_file import read_audit_file
from salve_audit.gate.init import propose_policy
from salve_audit.gate.policy import tighten
from salve_audit.gate.policy_file import find_lines, load_policy
from salve_audit.gate.rules import FACTOR, RELIANCE
from salve_audit.gate.run import Request, run_gate, saved_policy
from salve_audit.gate.verdict import judge
from salve_audit.results import AuditResult, FactorEffect


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('min_alpha_hat = "1"', "expected a number, got str in 'min_alpha_hat' (line 1)"),
        ("min_alpha_hat = true", "expected a number, got bool in 'min_alpha_hat' (line 1)"),
        ("min_alpha_hat = nan", "nan is not a positive number in 'min_alpha_hat' (line 1)"),
        ("\nmax_image_reliance = 1.5", "1.5 is not between 0 and 1 in 'max_image_reliance' (line 2)"),
        ("min_redundancy = 1.5", "expected a whole number, got 1.5 in 'min_redundancy' (line 1)"),
        ("max_relianse = 0.5", "unknown key 'max_relianse' in 'max_relianse' (line 1)"),
        ("max_drop = 0.1", "expected a table of limits by measure in 'max_drop' (line 1)"),
        ("max_drop = { speed = 1 }", "unknown key 'speed' in 'max_drop.speed' (line 1)"),
        ("max_drop = {}", "expected a limit or names with limits in 'max_drop' (line 1)"),
        ("require_stable = 1", "expected true or false, got int in 'require_stable' (line 1)"),
        ('on_undecided = "ignore"', "expected warn, fail, pass, got 'ignore' in 'on_undecided' (line 1)"),
        ("confidence = 2", "2 is not between 0.5 and 0.9999 in 'confidence' (line 1)"),
        ('[classes.dog]\nmin_alpha_hat = "x"', "expected a number, got str in 'classes.dog.min_alpha_hat' (line 2)"),
        ("[classes.dog]\nsize = 1", "unknown key 'size' in 'classes.dog.size' (line 2)"),
        ("[classes.dog]\nmax_fragile_share = 1", "unknown key 'max_fragile_share' in 'classes.dog.max_fragile_share'"),
        (
            'max_image_reliance = { limit = 1, severity = "loud" }',
            "expected error or warning, got 'loud' in 'max_image_reliance.severity' (line 1)",
        ),
        ("max_image_reliance = { limt = 1 }", "unknown key 'limt' in 'max_image_reliance.limt' (line 1)"),
        ('[[exceptions]]\nclass = "a"', "missing key 'rule' in 'exceptions[0]' (line 1)"),
        (
            '[[exceptions]]\nclass = "a"\nrule = "max_image_reliance"\nreason = "r"\nuntil = "soon"',
            "expected a date such as 2027-01-31, got 'soon' in 'exceptions[0].until' (line 5)",
        ),
        (
            '[[exceptions]]\nclass = "a"\nrule = "maximum"\nreason = "r"\nuntil = 2027-01-01',
            "unknown key 'maximum' in 'exceptions[0].rule' (line 3)",
        ),
        ("min_redundancy = inf", "inf is not a number from 1 on in 'min_redundancy' (line 1)"),
        ("min_redundancy = nan", "nan is not a number from 1 on in 'min_redundancy' (line 1)"),
        ("min_judged = 1.0", "expected \"all\", a whole number of classes or a share below 1, got 1.0 in 'min_judged'"),
        ("min_judged = 2.5", "expected \"all\", a whole number of classes or a share below 1, got 2.5 in 'min_judged'"),
        ("strong = 1.0", "1 is no limit: nothing lies above it"),
        (
            "max_image_reliance = 0.9\nmax-image-reliance = 0.2",
            "'max_image_reliance' (line 1) is given again in 'max-image-reliance' (line 2)",
        ),
        (
            "[classes.dog]\nmin-alpha-hat = 1\nmin_alpha_hat = 2",
            "'min-alpha-hat' (line 2) is given again in 'classes.dog.min_alpha_hat' (line 3)",
        ),
        (
            '[[exceptions]]\nclass = "a"\nrule = "max_image_reliance.foo"\nreason = "r"\nuntil = 2027-01-01',
            "unknown key 'max_image_reliance.foo' in 'exceptions[0].rule' (line 3)",
        ),
        (
            '[[exceptions]]\nclass = "a"\nrule = "min_accuracy"\nreason = "r"\nuntil = 2027-01-01',
            "min_accuracy has no exceptions: below it the exit code is 2, which nothing masks",
        ),
        ('allow_mismatch = ["weather"]', "'weather' is not one of data, schema, autoencoder, classes, digest"),
        ('allow_missing = "a"', "expected a list of names, got str in 'allow_missing' (line 1)"),
    ],
)
def test_a_wrong_key_is_named_with_its_path_and_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_policy(file)
    assert str(caught.value).startswith(f"{file}: {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), ("x = [", "not TOML"), (b"\xff", "not UTF-8 text"), ("a" * (2 << 20), "too large")],
)
def test_what_is_no_policy_file(content: str | bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=message):
        load_policy(file)


@pytest.mark.parametrize(("name", "table"), [("pyproject.toml", "tool.salve-audit.gate"), ("audit.toml", "gate")])
def test_a_policy_may_be_a_table_of_another_file(name: str, table: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(
        f'seed = 1\n\n[{table}]\n# limits\nmin-alpha-hat = 1.5\n[{table}.classes."a b"]\nmin_alpha_hat = 2\n'
    )
    read = load_policy(file)
    assert [(setting.key, setting.limit, setting.line) for setting in read.settings] == [("min_alpha_hat", 1.5, 5)]
    assert [(part.pattern, part.settings[0].line) for part in read.overrides] == [("a b", 7)]


def test_a_pyproject_without_a_policy_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    with pytest.raises(UsageError, match=r"has no table \[tool.salve-audit.gate\]"):
        load_policy(tmp_path / "pyproject.toml")


def test_lines_of_keys() -> None:
    text = 'a = 1\n[b."c.d"]  # note\n e = 2\n[[f]]\ng = 1\n[[f]]\ng = 2\n"h.i".j = 3\n'
    lines = find_lines(text)
    assert lines[("a",)] == 1
    assert lines[("b", "c.d")] == 2
    assert lines[("b", "c.d", "e")] == 3
    assert (lines[("f[0]", "g")], lines[("f[1]", "g")], lines[("f[1]", "h.i", "j")]) == (5, 7, 8)


def test_a_policy_is_read_again_from_the_audit_that_was_judged_under_it(tmp_path: Path) -> None:
    text = (
        'max_image_reliance = 0.5\nmax_global_factor = { colour = 0.3 }\n[classes."c*"]\nmin_alpha_hat = 1\n'
        '[[exceptions]]\nclass = "chapel"\nrule = "*"\nreason = "r"\nuntil = 2999-01-01\n'
    )
    own = policy(text)
    verdict = judge(sample(), own)
    saved = dataclasses.replace(sample(), verdict=verdict)
    again = saved_policy(read_audit_file(save(saved, tmp_path)).result)
    assert [setting.key for setting in again.all_settings] == [setting.key for setting in own.all_settings]
    assert again.exemptions[0].until == "2999-01-01"
    assert run_gate(Request(tmp_path)).verdict.rules == tuple(
        dataclasses.replace(rule, line=None) for rule in verdict.rules
    )


def test_the_proposed_policy_holds_what_holds_today(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(sample(), tmp_path)
    out = tmp_path / "policy.toml"
    assert run(["gate", str(tmp_path), "--init", "--out", str(out)]) == 0
    assert run(["gate", str(tmp_path), "--policy", str(out), "--format", "json"]) == 0
    verdict = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert verdict["passed"] is True
    assert {rule["key"] for rule in verdict["rules"]} >= {"max_image_reliance", "min_alpha_hat", "min_accuracy"}
    assert {rule["outcome"] for rule in verdict["rules"]} <= {"pass", "undecided"}
    assert run(["gate", str(tmp_path), "--init", "--out", str(out)]) == 2  # never over a file that is there
    assert "is there already" in capsys.readouterr().err


def test_the_proposed_policy_fails_no_class_for_depending_on_its_object_alone() -> None:
    """Every class comes to depend on one region, which lies in all of its images, and on nothing else."""
    proposed = policy(propose_policy(sample()))
    result = sample()
    for record in sample().classes:
        reliance = record.image_reliance
        assert reliance is not None
        changed = dataclasses.replace(
            reliance, kind="region", concept=None, check=None, reliance=1.0, low=0.96, high=1.0, chance=0.05,
            chance_low=0.0, chance_high=0.1, redundancy=1, redundancy_low=1, redundancy_high=1,
        )  # fmt: skip
        result = with_class(result, record.name, image_reliance=changed)
    verdict = judge(result, proposed)
    assert verdict.exit_code == 0
    assert {rule.effect for rule in verdict.rules if rule.outcome == "fail"} == {"warn"}


def test_a_proposal_has_every_name_and_stays_readable() -> None:
    hostile = 'a"]\n[x] é😀\x7f'
    record = dataclasses.replace(sample().classes[5], name=hostile, index=5)
    names = tuple(hostile if i == 5 else name for i, name in enumerate(sample().data.classes))
    result = dataclasses.replace(
        sample(),
        classes=tuple(record if part.index == 5 else part for part in sample().classes),
        data=dataclasses.replace(sample().data, classes=names),
    )
    read = policy(propose_policy(result))
    assert hostile in {part.pattern for part in read.overrides}


def test_a_proposal_for_very_many_classes_is_short() -> None:
    classes, names = [], []
    for i in range(400):
        source = sample().classes[i % 8]
        names.append(f"class {i}")
        classes.append(dataclasses.replace(source, name=names[-1], index=i))
    data = dataclasses.replace(sample().data, classes=tuple(names))
    text = propose_policy(dataclasses.replace(sample(), classes=tuple(classes), data=data, concepts=()))
    assert len(text.splitlines()) < 150
    assert policy(text).settings


def with_factors(result: AuditResult, name: str, *factors: FactorEffect) -> AuditResult:
    """The audit with these global factors of one class, which depends on one that is strong."""
    reliance = of_class(result, name).image_reliance
    assert reliance is not None
    reliance = dataclasses.replace(reliance, factors=factors)
    for part in factors:
        if part.removed > 0.5:
            own = {"reliance": part.removed, "low": part.low, "high": part.high, "kind": part.kind, "chance": 0.1}
            reliance = dataclasses.replace(reliance, **own, concept=None, check=None)
    return with_class(result, name, image_reliance=reliance)


WEAK = FactorEffect("sharpness", 0.0, 0.0, 0.61, chance=0.0, kind="sharpness", n=7, excess_low=-0.1)
STRONG = FactorEffect("sharpness", 0.93, 0.69, 1.0, chance=0.1, kind="sharpness", n=30, excess=0.83, excess_low=0.3)
INSERTED = FactorEffect("compression", 0.0, 0.0, 1.0, inserted=0.1, kind="compression", n_inserted=48)


def of_factor(name: str, effect: FactorEffect) -> FactorEffect:
    return dataclasses.replace(effect, name=name, kind=name)


def one_class_depends_on(factor: str) -> AuditResult:
    """Each class was screened for the factor on 7 images, and one, which depends on it, measured."""
    result = sample()
    for part in sample().classes:
        effect = of_factor(factor, STRONG if part.name == "plain" else WEAK)
        result = with_factors(result, part.name, effect, INSERTED)
    return result


@pytest.mark.parametrize(("factor", "severity", "code"), [("border", "error", 1), ("sharpness", "warning", 0)])
def test_a_class_that_depends_on_a_factor_loosens_no_other_class(factor: str, severity: str, code: int) -> None:
    result = one_class_depends_on(factor)
    proposed = policy(propose_policy(result))
    limits = {
        name: {(part.limit, part.severity) for part in proposed.settings_of(name) if part.name == factor}
        or {(part.limit, part.severity) for part in proposed.settings_of(name) if part.kind is FACTOR}
        for name in ("plain", "trio")
    }
    assert limits == {"trio": {(0.3, severity)}, "plain": {(None, "error")}}
    assert judge(result, proposed).exit_code == 0
    broken = judge(with_factors(result, "trio", of_factor(factor, STRONG), INSERTED), proposed)
    assert broken.exit_code == code  # by its detail alone an object may be known: that warns
    assert {rule.class_name for rule in broken.rules if rule.outcome == "fail" and factor in rule.rule} == {"trio"}


def test_limits_that_nothing_can_break_are_not_proposed() -> None:
    for result in (sample(), one_class_depends_on("sharpness")):
        proposed = policy(propose_policy(result))
        for part in proposed.all_settings:
            assert part.limit is None or not (part.kind.most == 1 and part.limit >= 0.95 and not part.kind.at_least)
            assert part.limit is None or part.kind.key != "min_redundancy" or part.limit > 1
        reliance = {
            name: part.limit
            for name in ("ripple", "clinic", "trio")
            for part in proposed.settings_of(name)
            if part.kind is RELIANCE
        }
        assert reliance == {"ripple": None, "clinic": 0.9, "trio": 0.31}


def test_an_exception_from_a_rule_that_the_policy_lacks_is_no_exception() -> None:
    exception = '\n[[exceptions]]\nclass = "*"\nrule = "{}"\nreason = "r"\nuntil = 2999-01-01'
    factor = "max_global_factor = { border = 0.5 }"
    for rule, text, code in (
        ("max_image_reliance", "min_alpha_hat = 1", 2),
        ("max_global_factor.hue", factor, 2),
        ("max_global_factor.border", factor, 0),
        ("max_global_factor", factor, 0),
        ("*", factor, 0),
    ):
        assert judge(sample(), policy(text + exception.format(rule))).exit_code == code, rule


def test_a_number_of_classes_that_the_audit_does_not_have_is_said_without_empty_brackets() -> None:
    (problem,) = judge(sample(), policy("min_alpha_hat = 1\nmin_judged = 100")).problems
    assert problem.endswith("8 classes could be judged, 100 are needed, and the rule concerns 8")


def test_a_flag_that_fails_later_keeps_the_limit_that_warns() -> None:
    own = policy('max_image_reliance = { limit = 0.3, severity = "warning" }')
    both = judge(sample(), tighten(own, {"fail_over_reliance": 0.99}))
    assert both.exit_code == 0
    assert {rule.limit for rule in both.by_effect("warn") if rule.outcome == "fail"} == {0.3}
    assert {rule.limit for rule in both.by_effect("pass")} >= {0.99}
    assert judge(sample(), tighten(own, {"fail_over_reliance": 0.5})).exit_code == 1
    (alone,) = tighten(own, {"fail_over_reliance": 0.2}).settings
    assert (alone.limit, alone.severity) == (0.2, "error")


def test_a_policy_is_proposed_from_no_audit_that_is_stale_or_was_edited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init = ["gate", str(tmp_path), "--init", "--out", str(tmp_path / "policy.toml")]
    save(sample(), tmp_path)
    (tmp_path / "stale.txt").write_text("a later audit failed")
    assert run(init) == 2
    assert "is stale: a later audit failed" in capsys.readouterr().err
    (tmp_path / "stale.txt").unlink()
    text = (tmp_path / "audit.json").read_text()
    (tmp_path / "audit.json").write_text(text.replace('"n_fit": ', '"n_fit": 1', 1))
    assert run(init) == 2
    assert "was changed after it was written" in capsys.readouterr().err
    assert not (tmp_path / "policy.toml").exists()


def test_a_proposal_says_what_it_relaxed_and_why_its_audit_cannot_be_trusted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at_chance = "Accuracy is 12.4 %, no better than chance (12.5 %): the model or the labels are wrong."
    weak = dataclasses.replace(sample().sae, satisfied=False)
    save(dataclasses.replace(without_classes(sample(), "trio"), sae=weak, notes=(at_chance,)), tmp_path)
    assert run(["gate", str(tmp_path), "--init", "--out", str(tmp_path / "policy.toml")]) == 0
    err = capsys.readouterr().err
    assert "relaxed to what the audit holds: allow_missing: no audit images of trio" in err
    assert "relaxed to what the audit holds: require_autoencoder = false" in err
    assert f"the audit cannot be trusted: the audit's own warning: {at_chance}" in err
