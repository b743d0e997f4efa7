"""Frozen records with arrays to a flat set of numpy arrays and back, without pickle.

What `encode` gives can be stored by `numpy.savez` and read with ``allow_pickle=False``: the record's shape is JSON, its
arrays lie beside it. Reading makes instances of the types that the caller's record declares and of no others, so a file
that somebody else has written can hold wrong numbers but can run nothing. Floats keep every bit, NaN and infinity too.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

from salve_audit.errors import CacheError

TREE = "tree"  # name of the JSON among the arrays
ARRAY, BYTES, PAIRS, FIELDS = "array", "bytes", "pairs", "fields"  # tags of what JSON has no word for

Members = Mapping[str, np.ndarray]


def encode(record: Any) -> dict[str, np.ndarray]:
    """Named arrays, none of them of objects, that `decode` makes the record of again.

    Args:
        record: dataclasses, tuples, lists, mappings, numpy arrays, bytes, numbers, texts and None, nested at will. An
            array that occurs twice is stored once.

    Raises:
        TypeError: it holds something else.
    """
    arrays: dict[str, np.ndarray] = {}
    names: dict[int, str] = {}

    def store(array: np.ndarray) -> str:
        if array.dtype.hasobject:
            raise TypeError("an array of objects cannot be kept")
        if id(array) not in names:
            names[id(array)] = f"a{len(arrays)}"
            arrays[names[id(array)]] = array
        return names[id(array)]

    text = json.dumps(_to_node(record, store), separators=(",", ":"))
    return {TREE: np.frombuffer(text.encode(), dtype=np.uint8), **arrays}


def _to_node(value: Any, store: typing.Callable[[np.ndarray], str]) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return {ARRAY: store(value)}
    if isinstance(value, bytes):
        return {BYTES: store(np.frombuffer(value, dtype=np.uint8))}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {FIELDS: {name: _to_node(getattr(value, name), store) for name in _names_of(type(value))}}
    if isinstance(value, Mapping):
        return {PAIRS: [[_to_node(key, store), _to_node(item, store)] for key, item in value.items()]}
    if isinstance(value, (tuple, list)):
        return [_to_node(item, store) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot be kept")


def decode(kind: Any, members: Members) -> Any:
    """The record of type `kind` that `encode` made these arrays of.

    Raises:
        CacheError: they are of no such record.
    """
    try:
        return _from_node(kind, json.loads(members[TREE].tobytes()), members)
    except (KeyError, ValueError, TypeError, AttributeError, AssertionError) as error:
        raise CacheError(_name_of(kind), f"cannot be read back ({type(error).__name__}: {error})") from error


def hash_record(record: Any) -> str:
    """sha256 of a record's types, texts, numbers and arrays."""
    digest = hashlib.sha256()
    for name, array in encode(record).items():
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data if array.size else b"")
    return digest.hexdigest()


def _from_node(kind: Any, node: Any, members: Members) -> Any:
    kind = _without_none(kind)
    if node is not None and dataclasses.is_dataclass(kind) and not (isinstance(node, dict) and FIELDS in node):
        raise ValueError(f"no record of {_name_of(kind)}")
    if isinstance(node, list):
        items = _item_kinds(kind, len(node))
        values = [_from_node(item, inner, members) for item, inner in zip(items, node, strict=True)]
        return values if typing.get_origin(kind) is list or kind is Any else tuple(values)
    if not isinstance(node, dict):
        return node
    ((tag, content),) = node.items()
    if tag == ARRAY:
        return members[content]
    if tag == BYTES:
        return members[content].tobytes()
    if tag == PAIRS:
        key_kind, item_kind = typing.get_args(kind) or (Any, Any)
        return {_from_node(key_kind, key, members): _from_node(item_kind, item, members) for key, item in content}
    if tag != FIELDS or not dataclasses.is_dataclass(kind) or set(content) != set(_names_of(typing.cast(Any, kind))):
        raise ValueError(f"no record of {_name_of(kind)}")
    record = typing.cast(type, kind)
    hints = _hints_of(record)
    return record(**{name: _from_node(hints[name], inner, members) for name, inner in content.items()})


def _item_kinds(kind: Any, n: int) -> list[Any]:
    """The types of a list's items: one for all, or one for each place of a tuple of fixed length."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple and arguments[-1] is not Ellipsis:
        return list(arguments)
    return [arguments[0] if arguments else Any] * n


def _without_none(kind: Any) -> Any:
    """The type beside None of an optional one."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind
    named = [member for member in typing.get_args(kind) if member is not types.NoneType]
    return named[0] if len(named) == 1 else Any


@functools.cache
def _hints_of(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


@functools.cache
def _names_of(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind) if field.init)


def _name_of(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))
