"""audit.json both ways: round trip, exact messages, no non-finite numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from salve_audit.errors import ResultError
from salve_audit.results import load_audit, parse_audit
from salve_audit.results.schema import JSON_KEY, from_dict, to_dict
from salve_audit.results.transform import TransformSpec


@dataclass(frozen=True)
class Inner:
    value: float | None
    names: tuple[str, ...]


@dataclass(frozen=True)
class Outer:
    kind: str = field(metadata={JSON_KEY: "class"})
    inner: tuple[Inner, ...] = ()
    table: Mapping[str, float] | None = None
    count: int = 0


EXAMPLE = Outer("tower", (Inner(1.5, ("a",)), Inner(None, ())), {"x": 2.0}, 3)


def test_round_trip_through_json() -> None:
    plain = json.loads(json.dumps(to_dict(EXAMPLE)))
    assert plain["class"] == "tower"
    assert from_dict(Outer, plain) == EXAMPLE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner": [{"value": "1", "names": []}]}, "expected float, got str in 'inner[0].value'"),
        ({"inner": [{"value": 1.0}]}, "missing key 'inner[0].names'"),
        ({"inner": {}}, "expected list, got object in 'inner'"),
        ({"extra": 1}, "unknown key 'extra' in 'the top level'"),
        ({"count": True}, "expected int, got bool in 'count'"),
        ({"count": 1.5}, "expected int, got float in 'count'"),
        ({"table": {"x": None}}, "expected float, got null in 'table.x'"),
        ({"class": None}, "expected str, got null in 'class'"),
    ],
)
def test_errors_name_the_path(change: dict[str, object], message: str) -> None:
    with pytest.raises(ResultError) as raised:
        from_dict(Outer, {**to_dict(EXAMPLE), **change})
    assert str(raised.value) == message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_finite(value: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        to_dict(Inner(value, ()))


def test_a_file_of_another_version_is_refused() -> None:
    with pytest.raises(
        ResultError, match=r"audit.json: schema_version is 99, this version of salve-audit reads 1 to 2"
    ):
        parse_audit('{"schema_version": 99}')


def test_what_is_not_json_is_refused(tmp_path) -> None:
    file = tmp_path / "audit.json"
    file.write_text("{")
    with pytest.raises(ResultError, match=r"audit.json: not JSON"):
        load_audit(tmp_path)


def test_no_such_file(tmp_path) -> None:
    with pytest.raises(ResultError, match="No such file or directory"):
        load_audit(tmp_path / "nothing.json")


def test_a_transform_without_a_crop_mode_was_a_centre_crop() -> None:
    """As in every audit.json written before the field existed."""
    spec = TransformSpec((3, 8, 8), (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0, "checkpoint", "squash")
    plain = json.loads(json.dumps(to_dict(spec)))
    assert from_dict(TransformSpec, plain) == spec
    del plain["crop_mode"]
    assert from_dict(TransformSpec, plain).crop_mode == "center"
