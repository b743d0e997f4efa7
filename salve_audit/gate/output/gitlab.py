"""GitLab's code quality report: a list of findings with fingerprints, severities and lines."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from salve_audit.gate.output.words import UNTRUSTED, describe, file_of, identify, key_of, worst_first
from salve_audit.results import Verdict
from salve_audit.results.plain_text import plain

SEVERITIES = {"error": "blocker", "fail": "critical", "warn": "minor", "exempt": "info", "skip": "info"}


def render_gitlab(verdict: Verdict, place: str = "audit.json") -> str:
    """The verdict as code quality findings; `place`: the file that they point at where there is no policy file."""
    path = file_of(verdict, place)
    findings = [
        _make(UNTRUSTED, "error", plain(problem), f"{UNTRUSTED}\n{problem}", (path, 1)) for problem in verdict.problems
    ]
    shown = [rule for rule in worst_first(verdict) if rule.effect != "pass"]
    findings += [
        _make(key_of(rule), rule.effect, describe(rule), f"{own}\n{rule.class_name}", (path, rule.line or 1))
        for rule, own in zip(shown, identify(shown), strict=True)
    ]
    return json.dumps(findings, indent=1, ensure_ascii=False) + "\n"


def _make(key: str, effect: str, text: str, identity: str, at: tuple[str, int]) -> dict[str, Any]:
    path, line = at
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
    return {
        "description": text,
        "check_name": plain(key),
        "fingerprint": digest,
        "severity": SEVERITIES[effect],
        "location": {"path": path, "lines": {"begin": line}},
    }
