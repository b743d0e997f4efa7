"""What the types of audit.json cannot say: lengths that belong together, shares within 0..1, a date that is one."""

from __future__ import annotations

import datetime
from typing import Any

from salve_audit.errors import ResultError


def check_consistency(value: dict[str, Any]) -> None:
    """Check the plain value of an audit.json whose types are right.

    Raises:
        ResultError: names the first path that does not fit.
    """
    try:
        datetime.datetime.fromisoformat(value["created"].replace("Z", "+00:00"))
    except ValueError:
        raise ResultError(f"expected an ISO 8601 date, got {value['created']!r} in 'created'") from None
    n_outputs = len(value["data"]["classes"])
    for i, one in enumerate(value["classes"]):
        _check_class(one, f"classes[{i}]", n_outputs)
    for i, one in enumerate(value["features"]):
        _check_length(one["mean_code"], n_outputs, f"features[{i}].mean_code")
        for kind in ("suppress", "enhance"):
            for j, effect in enumerate(one["effect"][kind]):
                where = f"features[{i}].effect.{kind}[{j}].accuracy_change"
                _check_length(effect["accuracy_change"], n_outputs, where)


def _check_class(one: dict[str, Any], path: str, n_outputs: int) -> None:
    for key in ("accuracy", "accuracy_low", "accuracy_high"):
        if not 0 <= one[key] <= 1:
            raise ResultError(f"expected a share in 0..1, got {one[key]} in '{path}.{key}'")
    if not 0 <= one["index"] < n_outputs:
        raise ResultError(f"expected an output in 0..{n_outputs - 1}, got {one['index']} in '{path}.index'")
    curve = one["curve"]
    _check_length(curve["accuracy"], len(curve["alpha_hat"]), f"{path}.curve.accuracy")
    if curve["others"]:
        _check_length(curve["others"], len(curve["alpha_hat"]), f"{path}.curve.others")


def _check_length(values: list[Any], expected: int, path: str) -> None:
    if len(values) != expected:
        raise ResultError(f"expected {expected} values, got {len(values)} in '{path}'")
