"""What the review file says of the concepts of an audit, for the report."""

from __future__ import annotations

from collections.abc import Mapping

from salve_audit.gate.review import VERDICTS as _VERDICTS
from salve_audit.gate.review import Review, match_among
from salve_audit.results import AuditResult
from salve_audit.results.reviewable import REGION

_STRICTEST = ("shortcut", "unclear", "accepted")
assert set(_STRICTEST) == set(_VERDICTS), "every verdict has a rank"


def reviewed_concepts(review: Review, result: AuditResult) -> Mapping[int, str]:
    """The verdict on each concept or global factor that the review names; of several the strictest."""
    verdicts: dict[int, list[str]] = {}
    for entry in review.entries:
        own = [concept for concept in result.concepts if concept.class_name == entry.class_name]
        factors = [
            concept for concept in own if concept.kind != REGION and entry.kind in (concept.factor, concept.kind)
        ]
        for concept in (*match_among(entry, own), *factors):
            verdicts.setdefault(concept.index, []).append(entry.verdict)
    return {index: min(said, key=_STRICTEST.index) for index, said in sorted(verdicts.items())}
