"""What the review file says of the concepts of an audit, for the report."""

from __future__ import annotations

from collections.abc import Mapping

from salve_audit.gate.review import REGION, Entry, Review, match
from salve_audit.gate.review import VERDICTS as _VERDICTS
from salve_audit.results import AuditResult, Concept

_STRICTEST = ("shortcut", "unclear", "accepted")
assert set(_STRICTEST) == set(_VERDICTS), "every verdict has a rank"


def reviewed_concepts(review: Review, result: AuditResult) -> Mapping[int, str]:
    """The verdict on each concept or global factor that the review names; of several the strictest."""
    said: dict[int, str] = {}
    for concept in result.concepts:
        verdicts = [entry.verdict for entry in review.entries if _speaks_of(entry, concept)]
        if verdicts:
            said[concept.index] = min(verdicts, key=_STRICTEST.index)
    return said


def _speaks_of(entry: Entry, concept: Concept) -> bool:
    if concept.kind == REGION:
        return match(entry, concept)
    return entry.class_name == concept.class_name and entry.kind in (concept.factor, concept.kind)
