"""What a user names, found in an audit: classes, features and concepts. No torch."""

from __future__ import annotations

import re
from collections.abc import Sequence

from salve_audit.errors import UsageError
from salve_audit.inputs.reasons import nearest_names
from salve_audit.results import AuditResult

SHOWN = 8
PLACE = "place"  # the kind of concept that has one


def find_class(name: str, classes: Sequence[str]) -> int:
    """The output of the class; raises UsageError, which names the nearest."""
    if name in classes:
        return list(classes).index(name)
    folded = {one.lower(): one for one in classes}
    near = [folded[one] for one in nearest_names(name.lower(), folded)]
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
        described = sorted((one.index for one in result.features), key=lambda one: (abs(one - number), one))
        near = [str(one) for one in described[:3]]
        raise UsageError("feature", f"{text}: the audit's features are 0 to {len(concepts) - 1}", near_hint(near))
    near = nearest_names(text, named) or [str(one.index) for one in result.features[:SHOWN]]
    raise UsageError("feature", f"the audit has no feature {text!r}", hint=near_hint(near))


def near_hint(names: Sequence[str]) -> str | None:
    """For an error's hint."""
    return f"nearest: {', '.join(names)}" if names else None


def find_concept(text: str, result: AuditResult) -> int:
    """The index in ``concepts`` that `text` is, or of the concept that the class `text` rests on most.

    Raises:
        UsageError: nothing was measured at depth, there is no such concept, or it is no place in the picture.
    """
    if result.depth is None or result.depth.why_absent:
        why = "by an earlier version" if result.depth is None else result.depth.why_absent
        what = f"the audit has no concepts: reliance at depth was not measured ({why})"
        raise UsageError("concept", what, hint="audit the model again, without --depth off")
    index = _find_index(text, result)
    found = result.concepts[index]
    if found.kind != PLACE:
        why = f"{index} (of {found.class_name}) is the {found.kind}, which has no place and cannot be projected out"
        places = [str(one.index) for one in result.concepts if one.kind == PLACE and one.class_name == found.class_name]
        hint = f"places of {found.class_name}: {', '.join(places[:SHOWN])}" if places else None
        raise UsageError("concept", why, hint=hint)
    return index


def _find_index(text: str, result: AuditResult) -> int:
    if re.fullmatch(r"\d{1,9}", text):
        if int(text) < len(result.concepts):
            return int(text)
        known = f"the audit's concepts are 0 to {len(result.concepts) - 1}" if result.concepts else "the audit has none"
        raise UsageError("concept", f"{text}: {known}")
    output = find_class(text, result.data.classes)
    record = next((one.depth for one in result.classes if one.index == output), None)
    if record is None:
        raise UsageError("concept", f"what {text!r} rests on was not measured", hint="name a concept by its number")
    if record.concept is None:
        raise UsageError(
            "concept", f"no one thing was found that {text!r} rests on: without any, it keeps its accuracy"
        )
    return record.concept
