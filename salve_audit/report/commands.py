"""The commands that belong to an audit, as the reader would type them where model, data and audit.json lie.

Of a module that was audited in memory there is no file; its commands are calls of the library.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from salve_audit.report.numbers import clean
from salve_audit.results import AuditResult
from salve_audit.results.subject import LIVE

AUDIT = "audit.json"
# Defaults of the options that audit.json records; what differs from them is a setting of this audit.
DEFAULTS: Mapping[str, Any] = {
    "activation_maximisation": "auto",
    "decide": False,
    "deep_edits": "auto",
    "device": "auto",
    "evidence": "auto",
    "follow_links": False,
    "images": True,
    "orientation": "auto",
    "precision": "auto",
    "sae": "auto",
    "seed": 0,
    "trust_model": False,
    "evidence_budget": 240,
}
_NEGATIVE = {"images": "--no-images"}


def changed_settings(result: AuditResult) -> dict[str, Any]:
    """The settings of this audit that are not the defaults; lists that the tool fills in itself are left out."""
    return {
        key: value
        for key, value in sorted(result.provenance.config.items())
        if value != DEFAULTS.get(key) and value not in (None, [], ()) and not _is_whole_list(key, value, result)
    }


def _is_whole_list(key: str, value: Any, result: AuditResult) -> bool:
    """The comparison of all methods is the default."""
    from salve_audit.interventions.registry import METHODS

    return key == "interventions" and list(value) == list(METHODS)


def rerun(result: AuditResult) -> str:
    """The command that repeats the audit."""
    if is_live(result):
        changed = {key: value for key, value in changed_settings(result).items() if key != "device"}  # the model's own
        settings = [f"{key}={list(value) if isinstance(value, tuple) else value!r}" for key, value in changed.items()]
        return _call("audit_model", "model", "train", "val", *settings)
    data = [result.data.root] if result.model.transform is not None else []
    words = ["salve-audit", result.model.name, *data]
    for key, value in changed_settings(result).items():
        words += _flag(key, value)
    return _join(words)


def _flag(key: str, value: Any) -> list[str]:
    if key in _NEGATIVE:
        return [_NEGATIVE[key]]
    flag = f"--{key.replace('_', '-')}"
    if value is True:
        return [flag]
    return [flag, ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)]


def review() -> str:
    """The command that asks what is an object and what a shortcut."""
    return _join(["salve-audit", "review", AUDIT])


def explain(result: AuditResult, path: str) -> str:
    """The command that takes one prediction apart."""
    if is_live(result):
        return _call("explain", "model", "image", repr(AUDIT)) + f"  # {clean(path)}"
    return _join(["salve-audit", "explain", result.model.name, str(PurePath(result.data.root) / path), AUDIT])


def explain_any(result: AuditResult) -> str:
    """The command that takes the prediction on an image of the reader's choice apart."""
    if is_live(result):
        return _call("explain", "model", "image", repr(AUDIT))
    return _join(["salve-audit", "explain", result.model.name, "IMAGE", AUDIT])


def gate(key: str, limit: float) -> str:
    """The command that judges this audit under a limit."""
    return _join(["salve-audit", "gate", AUDIT, f"--{key.replace('_', '-')}", f"{limit:g}"])


def gate_line(key: str, limit: float) -> str:
    """The line of ``[tool.salve-audit]`` that sets the limit."""
    return f"{key} = {json.dumps(limit)}"


def rounded_up(value: float, step: float = 0.05) -> float:
    """The next round limit above a value, at most 1."""
    return min(1.0, round(math.ceil(value / step - 1e-9) * step, 10))


def is_live(result: AuditResult) -> bool:
    """True for an audit of a module in memory."""
    return result.model.format == LIVE


def _call(function: str, *arguments: str) -> str:
    return clean(f"salve_audit.{function}({', '.join(arguments)})")


def _join(words: list[str]) -> str:
    return clean(shlex.join(words))
