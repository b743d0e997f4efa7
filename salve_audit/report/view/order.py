"""The order of classes in every table and chart, and the sentence that names it."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.report.conclusions import Conclusions
from salve_audit.report.language import plural, say
from salve_audit.report.numbers import count
from salve_audit.results import AuditResult, ClassReliance


def ranked(result: AuditResult) -> tuple[ClassReliance, ...]:
    """Classes in the order of the conclusions on them."""
    return tuple(conclusion.info for conclusion in Conclusions(result).ranked)


def order_words(classes: Sequence[ClassReliance]) -> str:
    """What classes are ordered by."""
    measured = any(class_info.image_reliance is not None for class_info in classes)
    return say("by image reliance less chance") if measured else say("by α̂ flip median")


def charted(result: AuditResult, limit: int) -> tuple[tuple[ClassReliance, ...], str]:
    """The classes with samples that charts show, at most `limit`, in order, and a sentence on the rest."""
    usable = [class_info for class_info in ranked(result) if class_info.n > 0]
    empty = len(result.classes) - len(usable)
    said = []
    if len(usable) > limit:
        text = "Shown are the first {limit} of {total} classes, {order}."
        said.append(say(text, limit=count(limit), total=count(len(usable)), order=order_words(result.classes)))
    if empty:
        said.append(say("No audit images: {n}.", n=plural(empty, "class", "classes")))
    return tuple(usable[:limit]), " ".join(said)
