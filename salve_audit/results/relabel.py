"""Class names and paths of a result exchanged throughout: short unique labels for a report, or no names at all."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from salve_audit.results.audit import AuditResult
from salve_audit.results.classes import ClassReliance
from salve_audit.results.evidence import Concept
from salve_audit.results.notes import DISTRUST, NAMES_LEFT_OUT, find_distrust
from salve_audit.results.schema import JSON_KEY
from salve_audit.results.seeing import Seeing, Thumbnail, nothing_seen
from salve_audit.results.subject import ClassPair, DataInfo, ModelInfo, Provenance, SkippedFile
from salve_audit.results.verdict import Verdict

T = TypeVar("T")
NAMING = ("affected", "dominant_for", "differs_from", "falls", "rises", "flips_to", "predicted")  # and all "class..."
NAMED = (ClassReliance, ClassPair)  # whose `name` is a class's
LEFT_OUT = "left out: it may name files or classes"
_FREE_TEXT = ("notes", "reason", "why_absent", "why_no_synthetic", "not_removed", "layout", "policy")
_SETTINGS_WITH_NAMES = ("arch", "weights", "label", "attributes", "classes", "policy", "baseline", "reviewed")


def class_names(result: AuditResult) -> tuple[str, ...]:
    """Every name that the result calls a class by, outputs first."""
    pairs = () if result.data.mapping is None else result.data.mapping.pairs
    every = [*result.data.classes, *(c.name for c in result.classes), *(pair.name for pair in pairs)]
    return tuple(dict.fromkeys(every))


def relabel_classes(result: AuditResult, labels: Mapping[str, str]) -> AuditResult:
    """The result with every class called by its label, in notes as well."""
    changed = {name: label for name, label in labels.items() if name != label}
    if not changed:
        return result
    # free texts hold names without marks: the longest first, and only whole words
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(n)}(?!\w)" for n in sorted(changed, key=len, reverse=True) if n))
    relabelled = _rename(result, lambda name: labels.get(name, name))
    notes = tuple(pattern.sub(lambda match: changed[match[0]], note) for note in result.notes)
    return dataclasses.replace(relabelled, notes=notes)


def _rename(record: T, rename: Callable[[str], str], is_name: bool = False) -> T:
    value: Any = record
    if isinstance(value, str):
        return rename(value) if is_name else value  # type: ignore[return-value]
    if isinstance(value, tuple):
        if value and not isinstance(value[0], str) and not dataclasses.is_dataclass(value[0]):
            return cast("T", value)  # numbers, of which there are many
        return tuple(_rename(item, rename, is_name) for item in value)  # type: ignore[return-value]
    if isinstance(value, Thumbnail) or not dataclasses.is_dataclass(value):
        return cast("T", value)
    changes = {}
    for field in dataclasses.fields(value):
        before = getattr(value, field.name)
        after = _rename(before, rename, _names_a_class(value, field))
        if after is not before and after != before:
            changes[field.name] = after
    return cast("T", dataclasses.replace(cast("Any", value), **changes) if changes else value)


def _names_a_class(record: Any, field: dataclasses.Field[Any]) -> bool:
    if field.name == "name":
        return isinstance(record, NAMED)
    return "class" in field.metadata.get(JSON_KEY, field.name) or field.name in NAMING


@dataclasses.dataclass(frozen=True)
class Key:
    """What an anonymised result's names stood for; kept beside it, never in it."""

    classes: Mapping[str, str]  # label -> name
    paths: Mapping[str, str]


def anonymise(result: AuditResult) -> tuple[AuditResult, Key]:
    """The result without class names, paths and file names, and the key to them. Hashes and images stay."""
    names = class_names(result)
    width = len(str(len(names)))
    labels = {name: f"class {i + 1:0{width}d}" for i, name in enumerate(names)}
    paths: dict[str, str] = {}
    bare = _strip_paths(_strip_texts(relabel_classes(result, labels)), paths)
    is_distrusted = bool(find_distrust(result.notes, result.distrust))
    anonymous = dataclasses.replace(
        bare,
        notes=(NAMES_LEFT_OUT, *[DISTRUST] * is_distrusted),
        distrust=(1,) * is_distrusted,
        concepts=tuple(map(_without_places, bare.concepts)),
        model=dataclasses.replace(result.model, name="model"),
        verdict=_anonymous_verdict(bare.verdict),
        data=_anonymous_data(bare.data, paths),
        provenance=_anonymous_provenance(result.provenance, labels),
        sae=dataclasses.replace(bare.sae, concepts=tuple(f"concept {i}" for i in range(len(bare.sae.concepts)))),
    )
    sources = {"model": result.model.name, "data": result.data.root}
    return anonymous, Key({label: name for name, label in labels.items()}, sources | {v: k for k, v in paths.items()})


def number_paths(result: AuditResult) -> AuditResult:
    """The result with a number for each path of an image; names of classes stay."""
    return _strip_paths(result, {})


def _strip_texts(record: T) -> T:
    """Sentences may name anything: those that a result can do without say so instead."""
    value: Any = record
    if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        return cast("T", tuple(map(_strip_texts, value)))
    if not dataclasses.is_dataclass(value) or isinstance(value, (Thumbnail, ModelInfo)):
        return cast("T", value)
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        before = getattr(value, field.name)
        if field.name in _FREE_TEXT and before:
            changes[field.name] = LEFT_OUT if isinstance(before, str) else ()
        elif field.name == "policy" or before is None:
            continue
        else:
            after = _strip_texts(before)
            if after is not before:
                changes[field.name] = after
    return cast("T", dataclasses.replace(cast("Any", value), **changes) if changes else value)


def _strip_paths(record: T, paths: dict[str, str]) -> T:
    value: Any = record
    if isinstance(value, Mapping):
        return cast("T", {anonymous_path(key, paths): inner for key, inner in value.items()})
    if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        return cast("T", tuple(_strip_paths(item, paths) for item in value))
    if not dataclasses.is_dataclass(value) or isinstance(value, (Thumbnail, Provenance)):
        return cast("T", value)
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        before = getattr(value, field.name)
        if field.name in ("path", "other_path"):
            changes[field.name] = anonymous_path(before, paths)
        elif isinstance(before, tuple) or dataclasses.is_dataclass(before) or field.name == "images":
            changes[field.name] = _strip_paths(before, paths)
    return cast("T", dataclasses.replace(cast("Any", value), **changes) if changes else value)


def _without_places(concept: Concept) -> Concept:
    """A place names its image by a hash, which whoever has the names can undo."""
    if concept.look is None:
        return concept
    return dataclasses.replace(concept, look=dataclasses.replace(concept.look, places=""))


def anonymous_path(path: str, paths: dict[str, str]) -> str:
    """The number that stands for a path, the same for the same path; new ones are added to `paths`."""
    return paths.setdefault(path, f"image {len(paths) + 1:06d}")


def _anonymous_data(data: DataInfo, paths: dict[str, str]) -> DataInfo:
    skipped = tuple(SkippedFile(anonymous_path(file.path, paths), LEFT_OUT) for file in data.skipped)
    mapping = data.mapping and dataclasses.replace(data.mapping, how="as the key says")
    return dataclasses.replace(data, root="data", layout="as given", skipped=skipped, mapping=mapping)


def _anonymous_verdict(verdict: Verdict) -> Verdict:
    """Rules and outcomes stay; what a policy file says in its own words does not."""
    rules = tuple(dataclasses.replace(rule, why=LEFT_OUT if rule.why else "") for rule in verdict.rules)
    problems = (LEFT_OUT,) * len(verdict.problems)
    policy = None if verdict.policy is None else LEFT_OUT
    return dataclasses.replace(
        verdict, policy=policy, rules=rules, problems=problems, notes=(), source="", policy_file="", table={}
    )


def _anonymous_provenance(provenance: Provenance, labels: Mapping[str, str]) -> Provenance:
    config = {
        key: value if value is None or key not in _SETTINGS_WITH_NAMES else labels.get(str(value), LEFT_OUT)
        for key, value in provenance.config.items()
    }
    return dataclasses.replace(provenance, config=config)


def without_pixels(result: AuditResult) -> AuditResult:
    """The result without a single image; every other number stays."""
    bare = _drop_pixels(result)
    assert isinstance(bare, AuditResult), "the result itself is no image"
    seeing = result.seeing and nothing_seen("images are kept out of the results (--no-images)")
    return dataclasses.replace(bare, seeing=seeing)


def _drop_pixels(record: Any) -> Any:
    """The record without images; None where it is nothing without its own."""
    if isinstance(record, Thumbnail):
        return None
    if isinstance(record, tuple):
        if not record or not dataclasses.is_dataclass(record[0]):
            return record
        return tuple(part for part in map(_drop_pixels, record) if part is not None)
    if not dataclasses.is_dataclass(record) or isinstance(record, (type, Seeing)):
        return record
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(record):
        before = getattr(record, field.name)
        after = _drop_pixels(before)
        if isinstance(before, Thumbnail) and field.default is dataclasses.MISSING:
            return None
        if after is not before and after != before:
            changes[field.name] = after
    return dataclasses.replace(record, **changes) if changes else record
