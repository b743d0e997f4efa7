"""The JSON Schema of audit.json, generated from the dataclasses of the results.

``audit.schema.json`` beside this file ships with the package; ``python -m salve_audit.results.json_schema`` writes it
again, and a test holds that it is what the dataclasses say.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from salve_audit.results.audit import AuditResult
from salve_audit.results.schema import JSON_KEY
from salve_audit.results.upgrade import SCHEMA_VERSION

FILE = Path(__file__).parent / "audit.schema.json"
SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}


def build_schema() -> dict[str, Any]:
    """The schema (draft 2020-12), one definition per dataclass; unknown keys are refused, as they are on reading."""
    definitions: dict[str, Any] = {}
    top = _of_record(AuditResult, definitions)
    top["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"audit.json of salve-audit, version {SCHEMA_VERSION}",
        **top,
        "$defs": {name: definitions[name] for name in sorted(definitions)},
    }


def render_schema() -> str:
    """The text of audit.schema.json."""
    return json.dumps(build_schema(), indent=1, sort_keys=True) + "\n"


def _of_record(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    properties, required = {}, []
    for field in dataclasses.fields(kind):
        key = field.metadata.get(JSON_KEY, field.name)
        properties[key] = _of_type(hints[field.name], definitions)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            required.append(key)
    return {"type": "object", "properties": properties, "required": sorted(required), "additionalProperties": False}


def _of_type(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return {"anyOf": [_of_type(inner, definitions), {"type": "null"}]}
    if origin is tuple:
        return {"type": "array", "items": _of_type(arguments[0], definitions)}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _of_type(arguments[1], definitions)}
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type), "a type hint names a class"
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}  # a record may hold itself
            definitions[kind.__name__] = _of_record(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    return {"type": SCALARS[kind]} if kind in SCALARS else {}


if __name__ == "__main__":
    FILE.write_text(render_schema(), encoding="utf-8")
