"""Frozen dataclasses to plain dictionaries and back, with the path of the field in every error.

The inverse is strict: unknown keys, missing keys and wrong types are errors such as
``expected float, got str in 'classes[3].accuracy'``. Only what audit.json needs is supported: dataclasses, lists
(tuples), string-keyed mappings, optionals and JSON scalars.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from salve_audit.errors import ResultError

T = TypeVar("T")
JSON_KEY = "json"  # field metadata: the key in JSON where it cannot be the attribute's name ("class")
AS_CLASS = {JSON_KEY: "class"}  # `class` is no attribute name in Python


def to_dict(record: Any) -> Any:
    """Plain dictionaries, lists and scalars; non-finite floats are refused.

    Raises:
        ValueError: a float is NaN or infinite (a result must say ``None`` for "not reached").
    """
    if dataclasses.is_dataclass(record):
        fields = dataclasses.fields(record)
        return {f.metadata.get(JSON_KEY, f.name): to_dict(getattr(record, f.name)) for f in fields}
    if isinstance(record, Mapping):
        return {str(key): to_dict(value) for key, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [to_dict(value) for value in record]
    if isinstance(record, float) and not math.isfinite(record):
        raise ValueError(f"a result must be finite, got {record}")
    assert record is None or isinstance(record, (str, int, float, bool)), f"not a plain value: {type(record)}"
    return record


def from_dict(kind: type[T], value: Any, path: str = "") -> T:
    """The record of type `kind` that `value` describes.

    Raises:
        ResultError: a key is unknown or missing, or a value has the wrong type; the message names its path.
    """
    return typing.cast(T, _convert(kind, value, path))


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _convert(kind: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(kind, value, path)
    if origin is tuple:
        if not isinstance(value, list):
            raise _mismatch("list", value, path)
        item = typing.get_args(kind)[0]
        return tuple(_convert(item, inner, f"{path}[{i}]") for i, inner in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise _mismatch("object", value, path)
        item = typing.get_args(kind)[1]
        return {key: _convert(item, inner, f"{path}.{key}") for key, inner in value.items()}
    if dataclasses.is_dataclass(kind):
        return _convert_record(kind, value, path)
    return _convert_scalar(kind, value, path)


def _convert_union(kind: Any, value: Any, path: str) -> Any:
    options = typing.get_args(kind)
    if value is None and type(None) in options:
        return None
    kinds = [option for option in options if option is not type(None)]
    assert len(kinds) == 1, f"a union in {path!r}: only optionals are supported"
    return _convert(kinds[0], value, path)


def _convert_record(kind: Any, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise _mismatch("object", value, path)
    fields = {f.metadata.get(JSON_KEY, f.name): f for f in dataclasses.fields(kind)}
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise ResultError(f"unknown key {unknown[0]!r} in {path or 'the top level'!r}")
    hints, arguments = _hints(kind), {}
    for key, field in fields.items():
        where = f"{path}.{key}".lstrip(".")
        if key in value:
            arguments[field.name] = _convert(hints[field.name], value[key], where)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ResultError(f"missing key {where!r}")
    return kind(**arguments)


def _convert_scalar(kind: Any, value: Any, path: str) -> Any:
    if kind is Any or kind is object:
        return value
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ResultError(f"expected a finite number, got {value} in {path!r}")
        return float(value)
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise _mismatch(kind.__name__, value, path)


def _mismatch(expected: str, value: Any, path: str) -> ResultError:
    got = {dict: "object", type(None): "null"}.get(type(value), type(value).__name__)
    return ResultError(f"expected {expected}, got {got} in {path or 'the top level'!r}")
