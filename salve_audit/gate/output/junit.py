"""JUnit XML: one test case a class and rule; a violation is a failure, what cannot be trusted an error."""

from __future__ import annotations

from collections import Counter
from xml.etree import ElementTree

from salve_audit.gate.output.words import UNTRUSTED, describe, key_of, name_of
from salve_audit.results import Rule, Verdict
from salve_audit.results.plain_text import plain

SUITE = "salve-audit"


def render_junit(verdict: Verdict) -> str:
    """The verdict as a test suite; exempt and skipped checks are skipped tests, warnings pass and are printed."""
    counts_of = Counter((rule.class_name, key_of(rule)) for rule in verdict.rules)
    cases = [_make_case(rule, counts_of[rule.class_name, key_of(rule)] > 1) for rule in verdict.rules]
    cases += [_make_problem(problem) for problem in verdict.problems]
    if not cases and verdict.exit_code:
        cases = [_make_problem("nothing was judged")]
    counts = {
        "tests": len(cases),
        "failures": len([case for case in cases if case.find("failure") is not None]),
        "errors": len([case for case in cases if case.find("error") is not None]),
    }
    texts = {name: str(count) for name, count in counts.items()}
    skipped = str(len([case for case in cases if case.find("skipped") is not None]))
    root = ElementTree.Element("testsuites", {"name": SUITE, **texts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": SUITE, **texts, "skipped": skipped})
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (("policy", verdict.policy or ""), ("verdict", verdict.word)):
        ElementTree.SubElement(properties, "property", {"name": name, "value": plain(value)})
    suite.extend(cases)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _make_case(rule: Rule, is_one_of_several: bool) -> ElementTree.Element:
    apart = f" ({rule.identity or f'{rule.limit:g}'})" if is_one_of_several else ""
    case = ElementTree.Element("testcase", {"classname": name_of(rule), "name": plain(key_of(rule) + apart)})
    tag = {"fail": "failure", "error": "error", "exempt": "skipped", "skip": "skipped"}.get(rule.effect)
    if tag is not None:
        _add(case, tag, rule.outcome, describe(rule))
    elif rule.effect == "warn" and rule.outcome == "thin":
        _add(case, "skipped", rule.outcome, describe(rule))
    elif rule.effect == "warn":
        ElementTree.SubElement(case, "system-out").text = f"warning: {describe(rule)}"
    return case


def _make_problem(problem: str) -> ElementTree.Element:
    case = ElementTree.Element("testcase", {"classname": UNTRUSTED, "name": plain(problem)[:200]})
    _add(case, "error", UNTRUSTED, plain(problem))
    return case


def _add(case: ElementTree.Element, tag: str, kind: str, message: str) -> None:
    ElementTree.SubElement(case, tag, {"type": kind, "message": message}).text = message
