"""audit.json of earlier schema versions, brought to the present one.

Version 2 renamed what version 1 called "depth": ``classes[].depth`` became ``classes[].image_reliance``, the top-level
``depth`` became ``evidence``, and a concept's ``latents`` (which were channels) ``channels``. Removals by dictionary
latents have no place in version 2 and are dropped; removals by projections stay.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from salve_audit.errors import ResultError

SCHEMA_VERSION = 2
KINDS = {"place": "region", "frame": "border", "overall colour": "colour"}
STATISTICS = {
    "redundancy": "feature_redundancy",
    "reliance_at_depth": "image_reliance",
    "redundancy_at_depth": "redundancy",
}
RULES = {
    "redundancy at depth at least": "redundancy in the image at least",
    "reliance at depth at most": "image reliance at most",
}
WORDS = (  # in this order
    (
        "Frame and overall colour of the pictures are taken out as wholes",
        "Border and overall colour are removed as global factors",
    ),
    (
        "until the class is lost; pieces of the same kind are one concept",
        "until the prediction flips; regions of the same kind are one concept",
    ),
    ("Whether a picture is lost without a piece is", "Whether a prediction depends on a region is"),
    ("places that speak for its class", "regions that speak for its class"),
    ("pieces of evidence", "evidence regions"),
    ("pieces", "evidence regions"),
    ("piece", "evidence region"),
    ("rests on", "depends on"),
    ("rest on", "depend on"),
    ("taken out", "removed"),
    ("a picture", "an image"),
    ("picture", "image"),
    ("Picture", "Image"),
    ("fail over a reliance of", "fail over an image reliance of"),
    ("--depth", "--evidence"),
)
TEXTS = {
    "evidence": ("method", "why_absent"),
    "seeing": ("why_absent", "why_no_synthetic"),
    "deep_edits": ("reason",),
    "verdict": ("policy",),
}
OPTIONS = {"depth": "evidence", "concepts": "attributes"}


def upgrade(value: Any) -> dict[str, Any]:
    """The plain value of an audit.json in the present version; `value` is left as it is.

    What is malformed stays malformed, for the typed reading that follows to name.

    Raises:
        ResultError: no object, or a newer or unknown version; names both versions.
    """
    if not isinstance(value, dict):
        raise ResultError("expected an object at the top level")
    version = value.get("schema_version")
    if version == SCHEMA_VERSION and type(version) is int:
        return value
    if version != 1 or type(version) is not int:
        raise ResultError(f"schema_version is {version!r}, this version of salve-audit reads 1 to {SCHEMA_VERSION}")
    return _from_version_1(copy.deepcopy(value))


def _from_version_1(value: dict[str, Any]) -> dict[str, Any]:
    _rename(value, {"depth": "evidence"})
    _upgrade_evidence(value.get("evidence"))
    kinds = {
        concept["index"]: concept.get("kind", "place")
        for concept in _records(value.get("concepts"))
        if isinstance(concept.get("index"), int)
    }
    _each(value.get("classes"), lambda class_value: _upgrade_class(class_value, kinds))
    _each(value.get("concepts"), _upgrade_concept)
    _rename(value.get("seeing"), {"pictures": "images"})
    for gallery in _records(_field(value.get("seeing"), "features")):
        _rename(gallery.get("synthetic"), {"picture": "image"})
    for correlation in _records(_field(value.get("demo"), "correlations")):
        _replace(correlation, "statistic", STATISTICS)
    for rule in _records(_field(value.get("verdict"), "rules")):
        _replace(rule, "rule", RULES)
    _upgrade_options(_field(value.get("provenance"), "config"))
    _upgrade_texts(value)
    return {**value, "schema_version": SCHEMA_VERSION}


def _upgrade_evidence(info: Any) -> None:
    _rename(info, {"n_pictures": "n_images"})
    if isinstance(info, dict):
        layers = info.pop("layers", [])
        info["layer"] = layers[0] if isinstance(layers, list) and layers else ""
        absent = info.get("not_removed", [])
        info["not_removed"] = "; ".join(map(str, absent)) if isinstance(absent, list) else absent


def _upgrade_texts(value: dict[str, Any]) -> None:
    """The sentences that a report prints as they stand, in the words of version 2."""
    for part, keys in TEXTS.items():
        for key in keys:
            _reword(value.get(part), key)
    notes = value.get("notes")
    if isinstance(notes, list):
        value["notes"] = [_in_new_words(note) if isinstance(note, str) else note for note in notes]


def _reword(record: Any, key: str) -> None:
    if isinstance(record, dict) and isinstance(record.get(key), str):
        record[key] = _in_new_words(record[key])


def _in_new_words(text: str) -> str:
    for old, new in WORDS:
        text = text.replace(old, new)
    return text


def _upgrade_class(class_value: dict[str, Any], kinds: Mapping[Any, Any]) -> None:
    _rename(
        class_value,
        {
            "depth": "image_reliance",
            "redundancy": "feature_redundancy",
            "redundancy_limit": "feature_redundancy_limit",
        },
    )
    reliance = class_value.get("image_reliance")
    _rename(reliance, {"null": "chance", "null_low": "chance_low", "null_high": "chance_high"})
    if isinstance(reliance, dict):
        concept = reliance.get("concept")
        kind = kinds.get(concept) if isinstance(concept, int) else None
        reliance["kind"] = KINDS.get(kind, kind) if isinstance(kind, str) else None


def _upgrade_concept(concept: dict[str, Any]) -> None:
    _rename(concept, {"latents": "channels", "trait": "signature"})
    _replace(concept, "kind", KINDS)
    if concept.get("layer") == "picture":
        concept["layer"] = "image"
    _each(concept.get("images"), lambda image: _rename(image, {"lost": "flipped"}))
    projected = [removal for removal in _records(concept.pop("removals", [])) if removal.get("rank")]
    for removal in projected[:1]:
        _rename(removal, {"null": "chance"})
        concept["removal"] = {key: part for key, part in removal.items() if key not in ("latents", "n_latents")}


def _upgrade_options(config: Any) -> None:
    _rename(config, OPTIONS)
    if isinstance(config, dict) and "depth_layers" in config:
        layers = config.pop("depth_layers")
        config["evidence_layer"] = layers[0] if isinstance(layers, list) and layers else None


def _rename(record: Any, names: Mapping[str, str]) -> None:
    if isinstance(record, dict):
        for old, new in names.items():
            if old in record:
                record[new] = record.pop(old)


def _replace(record: dict[str, Any], key: str, values: Mapping[str, str]) -> None:
    if isinstance(record.get(key), str):
        record[key] = values.get(record[key], record[key])


def _field(record: Any, key: str) -> Any:
    return record.get(key) if isinstance(record, dict) else None


def _records(values: Any) -> list[dict[str, Any]]:
    return [record for record in values if isinstance(record, dict)] if isinstance(values, list) else []


def _each(values: Any, change: Callable[[dict[str, Any]], None]) -> None:
    for record in _records(values):
        change(record)
