"""SARIF 2.1.0: every finding is anchored at the line of the policy that it comes from."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

from salve_audit import __version__
from salve_audit.gate.output.words import UNTRUSTED, describe, file_of, identify, key_of, worst_first
from salve_audit.results import Rule, Verdict
from salve_audit.results.plain_text import plain
from salve_audit.results.verdict import UNTRUSTED as UNTRUSTED_CODE

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"error": "error", "fail": "error", "warn": "warning", "exempt": "note", "skip": "note"}
MOST = 5000  # results that code scanning takes from one run


def render_sarif(verdict: Verdict, place: str = "audit.json") -> str:
    """The verdict as a SARIF log.

    Args:
        verdict: to render; checks that held are left out.
        place: the file that findings point at where there is no policy file.
    """
    path = file_of(verdict, place)
    problems = [_make_problem(problem, path) for problem in verdict.problems]
    shown = [rule for rule in worst_first(verdict) if rule.effect != "pass"]
    found = [_make_result(rule, own, path) for rule, own in zip(shown, identify(shown), strict=True)]
    results = [*problems, *found][:MOST]
    identities = dict.fromkeys(result["ruleId"] for result in results)
    run = {
        "tool": {
            "driver": {
                "name": "salve-audit",
                "version": __version__,
                "rules": [{"id": key, "shortDescription": {"text": key.replace("_", " ")}} for key in identities],
            }
        },
        "invocations": [{"executionSuccessful": verdict.exit_code != UNTRUSTED_CODE, "exitCode": verdict.exit_code}],
        "results": results,
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1, ensure_ascii=False) + "\n"


def _make_result(rule: Rule, identity: str, path: str) -> dict[str, Any]:
    result = _result(key_of(rule), LEVELS[rule.effect], describe(rule), path, rule.line)
    result["partialFingerprints"] = {"classAndRule/v1": _fingerprint(rule.class_name, identity)}
    if rule.effect == "exempt":
        result["suppressions"] = [{"kind": "external", "justification": plain(rule.why)}]
    return result


def _make_problem(problem: str, path: str) -> dict[str, Any]:
    result = _result(UNTRUSTED, "error", plain(problem), path, None)
    return {**result, "partialFingerprints": {"classAndRule/v1": _fingerprint(UNTRUSTED, problem)}}


def _result(key: str, level: str, text: str, path: str, line: int | None) -> dict[str, Any]:
    location = {"artifactLocation": {"uri": quote(path)}, "region": {"startLine": line or 1}}
    return {
        "ruleId": plain(key),
        "level": level,
        "message": {"text": text},
        "locations": [{"physicalLocation": location}],
    }


def _fingerprint(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
