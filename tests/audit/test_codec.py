"""Records with arrays to plain arrays and back: every bit, and no code."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float

from salve_audit.audit.codec import TREE, decode, encode, hash_record
from salve_audit.errors import CacheError


@dataclass(frozen=True)
class Part:
    name: str
    values: Float[np.ndarray, "n d"]
    share: float | None = None


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    pair: tuple[Part, int]
    by_index: Mapping[int, Part]
    anything: Mapping[str, Any]
    content: bytes
    maybe: Part | None = None
    memo: dict[int, int] = field(default_factory=dict, init=False, compare=False)


def through_a_file(record: Any, kind: Any) -> Any:
    stream = io.BytesIO()
    np.savez(stream, **encode(record))
    stream.seek(0)
    with np.load(stream, allow_pickle=False) as members:
        return decode(kind, {name: members[name] for name in members.files})


def make_whole() -> Whole:
    part = Part("é\n", np.arange(6, dtype=np.float32).reshape(2, 3), 0.1 + 0.2)
    return Whole(
        (part, Part("", np.zeros((0, 4)))),
        (part, 3),
        {7: part, -1: Part("x", part.values)},
        {"seed": 3, "names": ["a", None], "nested": {"rate": 1e-300}, "on": True},
        b"\x00\xff",
    )


def assert_same(left: Any, right: Any) -> None:
    assert hash_record(left) == hash_record(right)
    assert type(left) is type(right)


def test_a_record_comes_back_with_its_types() -> None:
    whole, again = make_whole(), through_a_file(make_whole(), Whole)
    assert_same(whole, again)
    assert isinstance(again.pair[0], Part)
    assert isinstance(again.by_index[7], Part)
    assert again.anything == whole.anything
    assert (again.content, again.maybe, again.parts[0].share) == (b"\x00\xff", None, 0.1 + 0.2)
    assert again.parts[1].values.shape == (0, 4)
    assert again.memo == {}


def test_an_array_that_occurs_twice_is_stored_once() -> None:
    members = encode(make_whole())
    assert sorted(name for name in members if name != TREE) == ["a0", "a1", "a2"]  # two arrays and the bytes
    again = through_a_file(make_whole(), Whole)
    assert again.parts[0].values is again.by_index[-1].values


@settings(deadline=None, max_examples=50)
@given(st.floats(), st.integers(-(2**70), 2**70), st.text())
def test_numbers_and_texts_keep_every_bit(number: float, count: int, text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    again = decode(tuple[float, int, str], encode((number, count, text)))
    assert again[1:] == (count, text)
    assert again[0] == number or (math.isnan(again[0]) and math.isnan(number))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i8", "u1", "?", "U5"])
def test_arrays_of_every_kind(dtype: str) -> None:
    array = np.array([[0, 1], [2, 3]]).astype(dtype)
    again = through_a_file((array,), tuple[np.ndarray, ...])[0]
    assert (again.dtype, again.tolist()) == (array.dtype, array.tolist())


def test_numpy_scalars_become_plain_numbers() -> None:
    again = decode(tuple[Any, ...], encode((np.float64(0.1), np.int64(3), np.bool_(True))))
    assert [type(value) for value in again] == [float, int, bool]


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array([object()]), Part])
def test_other_things_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be kept"):
        encode((value,))


@pytest.mark.parametrize(
    "tree",
    [
        "{",
        '{"fields": {"name": "x"}}',
        '{"fields": {"name": "x", "values": {"array": "a9"}, "share": null}}',
        '{"class": "os.system"}',
        '{"fields": {}, "array": "a0"}',
    ],
)
def test_what_is_no_such_record_is_an_error(tree: str) -> None:
    members = {TREE: np.frombuffer(tree.encode(), dtype=np.uint8), "a0": np.zeros(1)}
    with pytest.raises(CacheError, match="Part: cannot be read back"):
        decode(Part, members)


def test_only_declared_types_are_made() -> None:
    """A file cannot name the type that is to be made."""
    tree = json.dumps({"fields": {"name": {"fields": {}}, "values": {"array": "a0"}, "share": None}})
    with pytest.raises(CacheError):
        decode(Part, {TREE: np.frombuffer(tree.encode(), dtype=np.uint8), "a0": np.zeros(1)})


def test_the_hash_is_of_values_types_and_shapes() -> None:
    array = np.arange(4.0)
    hashes = [(array,), (array.astype("f4"),), (array.reshape(2, 2),), (array + 0.5,), (array, 0), (array, 0.0)]
    assert len({hash_record(record) for record in hashes}) == len(hashes)
    assert hash_record((array,)) == hash_record((array.copy(),))
