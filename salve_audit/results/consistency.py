"""Checks beyond the types of audit.json: lengths that belong together, shares within 0..1, a valid date."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Any

from salve_audit.errors import ResultError

_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_MOST_PIXELS = 4096
_WITH_IMAGES = ("seeing", "evidence", "concepts")


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
    for i, class_value in enumerate(value["classes"]):
        _check_class(class_value, f"classes[{i}]", n_outputs)
    for i, class_value in enumerate(value["features"]):
        _check_length(class_value["mean_code"], n_outputs, f"features[{i}].mean_code")
        for kind in ("suppress", "enhance"):
            for j, effect in enumerate(class_value["effect"][kind]):
                where = f"features[{i}].effect.{kind}[{j}].accuracy_change"
                _check_length(effect["accuracy_change"], n_outputs, where)

    for place in value.get("distrust") or ():
        if not 0 <= place < len(value["notes"]):
            raise ResultError(f"expected a place among {len(value['notes'])} notes, got {place} in 'distrust'")
    for path, image in (image_entry for key in _WITH_IMAGES for image_entry in _images(value.get(key), key)):
        if not _BASE64.fullmatch(image["jpeg"]):
            raise ResultError(f"expected base64 in '{path}.jpeg'")
        if not (0 < image["width"] <= _MOST_PIXELS and 0 < image["height"] <= _MOST_PIXELS):
            raise ResultError(f"expected sides of 1..{_MOST_PIXELS} pixels in '{path}'")


def _images(value: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every image below `path`, with its own path."""
    if isinstance(value, dict) and isinstance(value.get("jpeg"), str):
        yield path, value
    elif isinstance(value, (dict, list)):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, nested in inner:
            yield from _images(nested, f"{path}.{key}" if isinstance(value, dict) else f"{path}[{key}]")


def _check_class(class_value: dict[str, Any], path: str, n_outputs: int) -> None:
    for key in ("accuracy", "accuracy_low", "accuracy_high"):
        if not 0 <= class_value[key] <= 1:
            raise ResultError(f"expected a share in 0..1, got {class_value[key]} in '{path}.{key}'")
    if not 0 <= class_value["index"] < n_outputs:
        raise ResultError(f"expected an output in 0..{n_outputs - 1}, got {class_value['index']} in '{path}.index'")
    curve = class_value["curve"]
    _check_length(curve["accuracy"], len(curve["alpha_hat"]), f"{path}.curve.accuracy")
    if curve["others"]:
        _check_length(curve["others"], len(curve["alpha_hat"]), f"{path}.curve.others")


def _check_length(values: list[Any], expected: int, path: str) -> None:
    if len(values) != expected:
        raise ResultError(f"expected {expected} values, got {len(values)} in '{path}'")
