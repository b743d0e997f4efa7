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
from collections.abc import Callable, Mapping
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
    try:
        return typing.cast(T, _converter(kind)(value))
    except _MisfitError as misfit:
        raise ResultError(misfit.describe(path)) from None


class _MisfitError(Exception):
    """A value that does not fit; whoever holds it adds its own part of the path on the way up."""

    def __init__(self, words: str, missing: str = "") -> None:
        super().__init__(words)
        self.words, self.missing = words, missing
        self.parts: list[str] = []  # innermost first

    def describe(self, root: str) -> str:
        path = (root + "".join(reversed(self.parts))).lstrip(".")
        if self.missing:
            return f"missing key {f'{path}.{self.missing}'.lstrip('.')!r}"
        return f"{self.words} in {path or 'the top level'!r}"


Converter = Callable[[Any], Any]


@functools.cache
def _converter(kind: Any) -> Converter:
    """What reads a value of a type, made once: a file has hundreds of thousands of them."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _read_optional(kind)
    if origin is tuple:
        return _read_list(_converter(typing.get_args(kind)[0]))
    if origin is not None and issubclass(origin, Mapping):
        return _read_mapping(_converter(typing.get_args(kind)[1]))
    if dataclasses.is_dataclass(kind):
        return _read_record(kind)
    return _read_scalar(kind)


def _read_optional(kind: Any) -> Converter:
    kinds = [option for option in typing.get_args(kind) if option is not type(None)]
    assert len(kinds) == 1, f"a union {kind}: only optionals are supported"
    inner = _converter(kinds[0])
    return lambda value: None if value is None else inner(value)


def _read_list(item: Converter) -> Converter:
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _mismatch("list", value)
        items = []
        try:
            for part in value:
                items.append(item(part))  # noqa: PERF401  # the number of those before is part of the path
        except _MisfitError as misfit:
            misfit.parts.append(f"[{len(items)}]")
            raise
        return tuple(items)

    return read


def _read_mapping(item: Converter) -> Converter:
    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _mismatch("object", value)
        return {key: _read_part(item, part, key) for key, part in value.items()}

    return read


def _read_record(kind: Any) -> Converter:
    @functools.cache
    def fields() -> dict[str, tuple[str, Converter, bool]]:
        """By key: attribute, converter, whether it is required; made on first use, for a record may hold itself."""
        hints = typing.get_type_hints(kind)
        return {
            field.metadata.get(JSON_KEY, field.name): (field.name, _converter(hints[field.name]), _is_required(field))
            for field in dataclasses.fields(kind)
        }

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _mismatch("object", value)
        known, arguments = fields(), {}
        if not value.keys() <= known.keys():
            raise _MisfitError(f"unknown key {min(value.keys() - known.keys())!r}")
        for key, (name, convert, required) in known.items():
            if key in value:
                try:
                    arguments[name] = convert(value[key])
                except _MisfitError as misfit:
                    misfit.parts.append(f".{key}")
                    raise
            elif required:
                raise _MisfitError("", missing=key)
        return kind(**arguments)

    return read


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _read_part(convert: Converter, value: Any, key: str) -> Any:
    try:
        return convert(value)
    except _MisfitError as misfit:
        misfit.parts.append(f".{key}")
        raise


def _read_scalar(kind: Any) -> Converter:
    if kind is Any or kind is object:
        return lambda value: value
    if kind is float:
        return _read_float

    def read(value: Any) -> Any:
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
        raise _mismatch(kind.__name__, value)

    return read


def _read_float(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _mismatch("float", value)
    if not math.isfinite(value):
        raise _MisfitError(f"expected a finite number, got {value}")
    return float(value)


def _mismatch(expected: str, value: Any) -> _MisfitError:
    got = {dict: "object", type(None): "null"}.get(type(value), type(value).__name__)
    return _MisfitError(f"expected {expected}, got {got}")
