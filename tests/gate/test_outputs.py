"""All formats are made of one Verdict: on random audits and policies they say the same, and fit their schemas."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
import xmlschema
from gate_audits import of_class, policy, sample, with_accuracy, with_class, without_classes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from salve_audit.errors import UsageError
from salve_audit.gate.baseline import compare_with_baseline
from salve_audit.gate.compared import Compared
from salve_audit.gate.output.formats import (
    CODE_QUALITY,
    FORMATS,
    JUNIT,
    Target,
    detect_targets,
    parse_target,
    write_verdict,
)
from salve_audit.gate.output.github import render_github
from salve_audit.gate.output.junit import render_junit
from salve_audit.gate.output.markdown import MOST_BYTES, escape, render_markdown
from salve_audit.gate.output.sarif import render_sarif
from salve_audit.gate.output.text import render_text
from salve_audit.gate.output.words import worst_first
from salve_audit.gate.review import Entry, Review
from salve_audit.gate.verdict import Given, judge
from salve_audit.report.view.front import build_banner
from salve_audit.results import AuditResult, Rule, Verdict
from salve_audit.results.reviewable import REGION, fingerprint
from salve_audit.results.schema import from_dict, to_dict

DATA = Path(__file__).parent / "data"
HOSTILE = (
    "</td><script>x</script>",
    "::error::forged",
    "a|b`c\n::warning::d",
    "@everyone %0A",
    "\x1b[31mred\u202e",
)
NAMES = ("castle", "chapel", "clinic")


@functools.cache
def three_classes() -> AuditResult:
    """The sample with three classes, so that an example is cheap."""
    result = without_classes(sample(), *(name for name in sample().data.classes if name not in NAMES))
    data = dataclasses.replace(result.data, classes=NAMES)
    classes = tuple(dataclasses.replace(part, index=NAMES.index(part.name)) for part in result.classes)
    concepts = tuple(dataclasses.replace(concept, images=()) for concept in result.concepts)
    return dataclasses.replace(result, data=data, classes=classes, concepts=concepts)


class Made:
    """A made audit that shows how it was made in place of all of its numbers."""

    def __init__(self, result: AuditResult, words: list[str]) -> None:
        self.result, self.words = result, words

    def __repr__(self) -> str:
        return f"Made({self.words})"


@st.composite
def audits(draw: st.DrawFn) -> Made:
    """Audits whose classes are fragile or not, thin, wrong, unmeasured, missing, and of any name."""
    result, words = three_classes(), []
    for name in NAMES:
        kind = draw(st.sampled_from(["as it is", "as it is", "wrong", "unmeasured", "few", "unstable"]))
        words.append(f"{name} {kind}")
        reliance = of_class(result, name).image_reliance
        assert reliance is not None
        if kind == "wrong":
            result = with_accuracy(result, name, draw(st.sampled_from([0, 12, 90])))
        elif kind == "unmeasured":
            result = with_class(result, name, image_reliance=None)
        elif kind == "few":
            few = dataclasses.replace(reliance, n=9, n_correct=9, thin=True)
            result = with_class(result, name, image_reliance=few)
        elif kind == "unstable":
            result = with_class(result, name, stable=False, null_p=draw(st.sampled_from([None, 0.01, 0.9])))
    if draw(st.booleans()):
        words.append(draw(st.sampled_from(HOSTILE)))
        result = _renamed(result, "chapel", words[-1])
    if draw(st.integers(0, 4)) == 0:
        words.append("no castle")
        result = without_classes(result, "castle")
    return Made(result, words)


def _renamed(result: AuditResult, old: str, new: str) -> AuditResult:
    text = json.dumps(to_dict(result)).replace(f'"{old}"', json.dumps(new))
    return from_dict(AuditResult, json.loads(text))


@st.composite
def policies(draw: st.DrawFn) -> str:
    """Texts of policies with any rules, severities, overrides, exceptions and words."""
    limit = st.sampled_from([0.0, 0.3, 0.45, 0.75, 1.0])
    severity = st.sampled_from(["", ', severity = "warning"'])
    rules = {
        "max_image_reliance": draw(limit),
        "max_cross_class_damage": draw(limit),
        "max_null_p": draw(limit),
        "min_alpha_hat": draw(st.sampled_from([0.5, 1.45, 2.0, 9.0])),
        "min_redundancy": draw(st.sampled_from([1, 2, 9])),
        "min_accuracy": draw(limit),
        "max_fragile_share": draw(limit),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(rules)), min_size=1, max_size=4, unique=True))
    lines = [f"{key} = {{ limit = {rules[key]}{draw(severity)} }}" for key in chosen]
    lines += [f'on_undecided = "{draw(st.sampled_from(["warn", "fail", "pass"]))}"']
    lines += [f'on_thin = "{draw(st.sampled_from(["warn", "fail", "skip"]))}"']
    lines += ["min_judged = " + draw(st.sampled_from(['"all"', "0", "2"]))]
    lines += ['allow_missing = ["*"]'] * draw(st.booleans())
    if draw(st.booleans()):
        lines += [f"max_global_factor = {{ border = {draw(limit)}, colour = {draw(limit)} }}"]
    lines += ["max_drop = { image_reliance = 0.1, global_factor = 0.1 }"] * draw(st.booleans())
    if draw(st.booleans()):
        lines += ['review = "r.toml"', f'on_unreviewed = "{draw(st.sampled_from(["warn", "fail", "pass"]))}"']
    if draw(st.booleans()):
        lines += ['[classes."c*"]', f"max_image_reliance = {draw(limit)}"]
    if draw(st.booleans()):
        until = draw(st.sampled_from(["2999-01-01", "2001-01-01"]))
        lines += ["[[exceptions]]", 'class = "*"', 'rule = "*"', 'reason = "because\\u001b"', f"until = {until}"]
    return "\n".join(lines)


def review() -> Review:
    """Two shortcuts of one class that people call the same, an accepted factor, and the rest without a word."""
    own = [part for part in three_classes().concepts if part.class_name in ("clinic", "chapel") and part.kind == REGION]
    said = ("snow", "shortcut", "A. Reviewer", "2026-11-20", "because")
    shortcuts = [Entry(part.class_name, REGION, fingerprint(part), *said) for part in own[:4]]
    return Review("r.toml", (*shortcuts, Entry("castle", "colour", "", "cast", "accepted", *said[2:])))


@functools.cache
def junit_schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(str(DATA / "junit-10.xsd"))


@functools.cache
def sarif_schema() -> jsonschema.Draft4Validator:
    return jsonschema.Draft4Validator(json.loads(gzip.decompress((DATA / "sarif-2.1.0.json.gz").read_bytes())))


def code_by_junit(text: str) -> int:
    junit_schema().validate(text)
    (suite,) = ElementTree.fromstring(text)
    cases = suite.findall("testcase")
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.attrib[name]) == len([case for case in cases if case.find(tag) is not None])
    assert int(suite.attrib["tests"]) == len(cases)
    return 2 if int(suite.attrib["errors"]) else 1 if int(suite.attrib["failures"]) else 0


def code_by_sarif(text: str) -> int:
    log = json.loads(text)
    errors = [error.message for error in sarif_schema().iter_errors(log)]
    assert not errors, errors[:3]
    (run,) = log["runs"]
    found = {(result["ruleId"] == "untrusted", result["level"]) for result in run["results"]}
    code = 2 if (True, "error") in found else 1 if (False, "error") in found else 0
    assert run["invocations"] == [{"executionSuccessful": code != 2, "exitCode": code}]
    return code


def code_by_github(text: str) -> int:
    lines = text.splitlines()
    assert all(re.match(r"::(error|warning) file=[^,:]+,line=\d+,title=[^:]*::", line) for line in lines), lines
    assert all(sum(line.startswith(f"::{kind}") for line in lines) <= 10 for kind in ("error", "warning"))
    errors = [line for line in lines if line.startswith("::error ")]
    return 2 if any("title=salve-audit%3A untrusted" in line for line in errors) else 1 if errors else 0


def code_by_gitlab(text: str) -> int:
    findings = json.loads(text)
    for finding in findings:
        assert set(finding) == {"description", "check_name", "fingerprint", "severity", "location"}
        assert finding["location"]["lines"]["begin"] >= 1
    assert len({finding["fingerprint"] for finding in findings}) == len(findings)
    severities = {finding["severity"] for finding in findings}
    return 2 if "blocker" in severities else 1 if "critical" in severities else 0


def code_by_words(text: str) -> int:
    return {"passed": 0, "FAILED": 1, "NOT JUDGED": 2}[re.search(r": (passed|FAILED|NOT JUDGED)$", text, re.M).group(1)]


def code_of_banner(verdict: Verdict) -> int:
    banner = build_banner(verdict)
    assert banner is not None
    return {("pass", "Pass"): 0, ("fail", "Fail"): 1, ("none", "Not judged"): 2}[(banner.kind, banner.word)]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(made=audits(), text=policies())
def test_every_output_says_the_same(made: Made, text: str) -> None:
    result = made.result
    own = policy(text)
    reviewed = review() if own.review is not None else None
    losses = compare_with_baseline(own, Compared(result, three_classes(), None, None, "main", reviewed))
    verdict = judge(result, own, Given(reviewed, losses))
    assert (verdict.passed is None) == bool(verdict.problems)
    code = verdict.exit_code
    rendered = {name: render(verdict, "salve-report/audit.json") for name, render in FORMATS.items()}
    said = {
        "json": json.loads(rendered["json"])["exit_code"],
        "junit": code_by_junit(rendered["junit"]),
        "sarif": code_by_sarif(rendered["sarif"]),
        "github": code_by_github(rendered["github"]),
        "gitlab": code_by_gitlab(rendered["gitlab"]),
        "markdown": code_by_words(rendered["markdown"]),
        "text": code_by_words(rendered["text"]),
        "report": code_of_banner(verdict),
    }
    assert said == dict.fromkeys(said, code), (said, code)
    _check_counts(verdict, rendered)
    _check_forged_lines(rendered)
    assert from_dict(Verdict, json.loads(json.dumps(to_dict(verdict)))) == verdict


def _check_counts(verdict: Verdict, rendered: dict[str, str]) -> None:
    """Every check that did not simply hold is in every format."""
    counts = {effect: len(verdict.by_effect(effect)) for effect in ("fail", "error", "warn", "exempt", "skip")}
    problems = len(verdict.problems)
    rows = [line for line in rendered["markdown"].splitlines() if re.match(r"\| [a-z]", line)]
    shown = [rule for rule in worst_first(verdict) if rule.effect != "pass"]
    assert len(shown) <= sum(counts.values())
    assert {rule.effect for rule in shown} == {effect for effect, n in counts.items() if n}
    assert len(rows) == len(shown)
    findings = json.loads(rendered["gitlab"])
    assert len([f for f in findings if f["severity"] == "critical"]) == counts["fail"]
    assert len(findings) == len(shown) + problems
    sarif = json.loads(rendered["sarif"])["runs"][0]["results"]
    assert len(sarif) == len(shown) + problems
    assert len({result["partialFingerprints"]["classAndRule/v1"] for result in sarif}) == len(sarif)
    assert len([r for r in sarif if r["level"] == "warning"]) == counts["warn"]
    suite = ElementTree.fromstring(rendered["junit"])[0]
    assert int(suite.attrib["failures"]) == counts["fail"]
    assert int(suite.attrib["tests"]) == len(verdict.rules) + problems


def _check_forged_lines(rendered: dict[str, str]) -> None:
    """Names neither start workflow commands nor add markup."""
    for name in ("text", "markdown", "junit"):
        assert not [line for line in rendered[name].splitlines() if line.lstrip().startswith("::")]
        assert "\x1b" not in rendered[name]
    assert "<script" not in rendered["markdown"]
    assert "::error::forged" not in rendered["github"].replace("::error file", "")


def many(n: int, effect: str = "fail", why: str = "") -> Verdict:
    rules = tuple(
        Rule("image reliance at most", f"class {i}", 1 + i, 0.0, None, 0.5, "fail", effect, "max_image_reliance", why)
        for i in range(n)
    )
    return Verdict(passed=False, policy="image reliance at most 0.5", rules=rules, policy_file="salve-policy.toml")


def test_annotations_are_the_worst_nine_and_a_number() -> None:
    lines = render_github(many(1000)).splitlines()
    assert len(lines) == 10
    assert lines[-1].endswith("::and 991 more")
    assert "class 999:" in lines[0]
    assert len(render_github(many(10)).splitlines()) == 10


def test_annotations_are_escaped() -> None:
    rule = Rule("r", "100 % of, a:b\nc", 1.0, None, None, 2.0, "fail", "fail", "key,with:all")
    (line,) = render_github(Verdict(False, "p", (rule,), policy_file="a,b:c.toml")).splitlines()
    assert line.startswith("::error file=a%2Cb%3Ac.toml,line=1,title=salve-audit%3A key%2Cwith%3Aall::")
    assert "100 %25 of, a:b\\nc" in line


@pytest.mark.parametrize("why", ["", "x" * 3000, "é|" * 2000])
def test_a_step_summary_stays_below_its_limit(why: str) -> None:
    text = render_markdown(many(5000, why=why), MOST_BYTES)
    assert len(text.encode()) < 1 << 20
    assert "FAILED" in text
    assert "more are in the report" in text
    assert len(render_markdown(many(5000, why=why)).encode()) <= 65_536


def test_markup_in_names_is_text() -> None:
    assert escape("a|b <i> [x](y) @me") == "a&#124;b &#60;i&#62; &#91;x&#93;&#40;y&#41; @\u200bme"


def test_findings_point_at_the_line_of_the_policy() -> None:
    rule = dataclasses.replace(many(1).rules[0], line=7)
    verdict = dataclasses.replace(many(1), rules=(rule,), policy_file="ci dir/policy.toml")
    (result,) = json.loads(render_sarif(verdict))["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "ci%20dir/policy.toml"}, "region": {"startLine": 7}}
    without = json.loads(render_sarif(dataclasses.replace(verdict, policy_file=""), "out/audit.json"))
    (place,) = without["runs"][0]["results"][0]["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "out/audit.json"


def test_an_exception_is_a_suppressed_finding_and_a_skipped_test() -> None:
    verdict = dataclasses.replace(many(1, "exempt", "accepted until 2999-01-01: known"), passed=True)
    (result,) = json.loads(render_sarif(verdict))["runs"][0]["results"]
    assert result["suppressions"] == [{"kind": "external", "justification": "accepted until 2999-01-01: known"}]
    assert ElementTree.fromstring(render_junit(verdict))[0].attrib["skipped"] == "1"


@pytest.mark.parametrize(
    ("environment", "formats"),
    [
        ({}, ["text"]),
        ({"GITHUB_ACTIONS": "true"}, ["text", "github"]),
        ({"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": "s.md"}, ["text", "github", "summary"]),
        ({"GITLAB_CI": "true"}, ["text", "gitlab", "junit"]),
        ({"GITHUB_ACTIONS": "false", "GITHUB_STEP_SUMMARY": "s.md"}, ["text"]),
    ],
)
def test_the_continuous_integration_is_detected(environment: dict[str, str], formats: list[str]) -> None:
    targets = detect_targets(environment)
    assert [target.format for target in targets] == formats
    files = [str(target.path) for target in targets if target.path is not None]
    assert files == {"summary": ["s.md"], "junit": [CODE_QUALITY, JUNIT]}.get(formats[-1], [])


def test_targets_are_written_and_summaries_appended(tmp_path: Path) -> None:
    printed: list[str] = []
    summary, sarif = tmp_path / "s.md", tmp_path / "deep" / "v.sarif"
    summary.write_text("before\n")
    targets = (Target("text"), Target("summary", summary, appends=True), parse_target(f"sarif={sarif}"))
    write_verdict(many(2), targets, "audit.json", printed.append)
    assert printed == [render_text(many(2)) + "\n"]
    assert summary.read_text().startswith("before\n## ❌ salve-audit: FAILED")
    assert code_by_sarif(sarif.read_text()) == 1


@pytest.mark.parametrize(
    ("targets", "message"),
    [(["html"], "'html' is not one of text"), (["json", "junit"], "json and junit cannot share stdout")],
)
def test_formats_that_cannot_be(targets: list[str], message: str) -> None:
    def attempt() -> Any:
        write_verdict(many(1), [parse_target(text) for text in targets], "audit.json", lambda text: None)

    with pytest.raises(UsageError, match=message):
        attempt()


def test_a_finding_keeps_its_identity_though_concepts_are_numbered_anew() -> None:
    def fingerprints(index: int, mark: str) -> tuple[str, str]:
        rule = Rule(
            "no dependence", "castle", 0.9, 0.8, 1.0, 0.2, "undecided", "warn", f"on_unreviewed.concept {index}"
        )
        verdict = dataclasses.replace(many(1), rules=(dataclasses.replace(rule, identity=f"region {mark}"),))
        sarif = json.loads(render_sarif(verdict))["runs"][0]["results"][0]["partialFingerprints"]["classAndRule/v1"]
        return sarif, json.loads(FORMATS["gitlab"](verdict, "a"))[0]["fingerprint"]

    assert fingerprints(9, "5c1f09ab") == fingerprints(4, "5c1f09ab")
    assert not set(fingerprints(9, "5c1f09ab")) & set(fingerprints(9, "00000000"))


def test_words_are_short_and_people_can_read_them() -> None:
    names = ", ".join(f'"factor {i}" = 0.3' for i in range(19))
    own = policy(f"require_stable = true\nmax_global_factor = {{ {names}, hue = 0.4 }}")
    assert own.words == (
        "dependence on a global factor at most: hue 0.4, factor 0, factor 1, factor 10, factor 11 and 15 more 0.3; "
        "dominant feature stable over seeds"
    ) or own.words == (
        "dependence on a global factor at most: factor 0, factor 1, factor 10, factor 11 and 15 more 0.3, hue 0.4; "
        "dominant feature stable over seeds"
    )
    wrong = with_accuracy(sample(), "trio", 0)
    rules = "max_image_reliance = 1\nmin_redundancy = 1\nmax_global_factor = { border = 1, colour = 1 }"
    (problem,) = judge(wrong, policy(rules)).problems  # one reason, not one a rule
    assert problem.startswith("image reliance at most; redundancy in the image at least; dependence on a global factor")
    assert " and 1 more: 7 classes could be judged, 8 are needed (trio: only 0 of 100 images" in problem
    uneven = f'{rules.partition(chr(10))[2]}\n[classes."[t-z]*"]\nmax_image_reliance = 0.5\nmin_redundancy = 2'
    (problem,) = judge(wrong, policy(uneven)).problems  # though the rules concern unlike numbers of classes
    assert "too few classes could be judged (trio: only 0 of 100 images" in problem
    unreviewed = judge(sample(), policy('review = "r.toml"'), Given(Review("r.toml", ())))
    lines = [line for line in render_text(unreviewed).splitlines() if "ripple" in line]
    assert re.match(r"  warning: ripple: depends on concept \d+, which nobody has reviewed; 1 \[0\.963, 1\]$", lines[0])


def test_skipped_factors_of_a_class_are_one_line() -> None:
    words = "dependence on a global factor at most:"
    rules = tuple(
        Rule(f"{words} f{i}", "castle", 0.0, 0.0, 0.6, 0.3, "thin", "skip", f"max_global_factor.f{i}", "screened")
        for i in range(18)
    )
    verdict = dataclasses.replace(many(1), rules=rules)
    skipped = [line for line in render_text(verdict).splitlines() if "skipped:" in line]
    assert skipped == [
        "  skipped: castle: dependence on 18 global factors at most 0.3; no value (not judged: screened)"
    ]
