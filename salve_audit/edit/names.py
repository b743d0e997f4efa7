"""Looks up classes, features and concepts of an audit by the names that users give. No torch."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from salve_audit.errors import UsageError
from salve_audit.inputs.reasons import nearest_names
from salve_audit.results import AuditResult

log = logging.getLogger(__name__)
SHOWN = 8
REGION = "region"  # the kind of concept that can be projected out


def find_class(name: str, classes: Sequence[str]) -> int:
    """The output of the class; raises UsageError, which names the nearest."""
    if name in classes:
        return list(classes).index(name)
    folded = {class_name.lower(): class_name for class_name in classes}
    near = [folded[class_name] for class_name in nearest_names(name.lower(), folded)]
    hint = near_hint(near) or f"classes: {', '.join(classes[:SHOWN])}{', ...' if len(classes) > SHOWN else ''}"
    raise UsageError("class", f"the audit has no class {name!r}", hint=hint)


def find_feature(text: str, result: AuditResult, concepts: Sequence[str | None]) -> int:
    """The latent of that number or known concept; raises UsageError, which names the nearest."""
    named = {concept: index for index, concept in enumerate(concepts) if concept is not None}
    if text in named:
        return named[text]
    if re.fullmatch(r"\d{1,9}", text):
        number = int(text)
        if number < len(concepts):
            return number
        described = sorted(
            (feature.index for feature in result.features), key=lambda index: (abs(index - number), index)
        )
        near = [str(index) for index in described[:3]]
        raise UsageError("feature", f"{text}: the audit's features are 0 to {len(concepts) - 1}", near_hint(near))
    near = nearest_names(text, named) or [str(feature.index) for feature in result.features[:SHOWN]]
    raise UsageError("feature", f"the audit has no feature {text!r}", hint=near_hint(near))


def near_hint(names: Sequence[str]) -> str | None:
    """The nearest names as an error's hint."""
    return f"nearest: {', '.join(names)}" if names else None


def find_concept(text: str, result: AuditResult) -> int:
    """The index in ``concepts`` that `text` is, or of the place in the image that the class `text` depends on most.

    Raises:
        UsageError: nothing was measured in the image, there is no such concept, or it is no region of the image.
    """
    if result.evidence is None or result.evidence.why_absent:
        why = "by an earlier version" if result.evidence is None else result.evidence.why_absent
        what = f"the audit has no concepts: image reliance was not measured ({why})"
        raise UsageError("concept", what, hint="audit the model again, without --evidence off")
    index = _find_index(text, result)
    concept = result.concepts[index]
    if concept.kind != REGION:
        regions = [
            each.index for each in result.concepts if (each.kind, each.class_name) == (REGION, concept.class_name)
        ]
        if regions and not text.isdigit():
            told = "%r depends more on the %s, which cannot be projected out: its place %d is taken"
            log.warning(told, concept.class_name, concept.kind, regions[0])
            return regions[0]
        why = f"{index} (of {concept.class_name}) is the {concept.kind}, a global factor, which cannot be projected out"
        hint = f"evidence regions of {concept.class_name}: {', '.join(map(str, regions[:SHOWN]))}" if regions else None
        raise UsageError("concept", why, hint=hint)
    return index


def _find_index(text: str, result: AuditResult) -> int:
    if re.fullmatch(r"\d{1,9}", text):
        if int(text) < len(result.concepts):
            return int(text)
        known = f"the audit's concepts are 0 to {len(result.concepts) - 1}" if result.concepts else "the audit has none"
        raise UsageError("concept", f"{text}: {known}")
    output = find_class(text, result.data.classes)
    record = next((class_info.image_reliance for class_info in result.classes if class_info.index == output), None)
    if record is None:
        raise UsageError("concept", f"what {text!r} depends on was not measured", hint="name a concept by its number")
    if record.concept is None:
        raise UsageError(
            "concept", f"no one thing was found that {text!r} depends on: without any, it keeps its accuracy"
        )
    return record.concept
