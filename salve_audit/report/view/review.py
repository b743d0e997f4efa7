"""The review form: what classes depend on, for a person to call an object or a shortcut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup, escape

from salve_audit.report.crops import crop_reviewed
from salve_audit.report.language import plural, say
from salve_audit.report.numbers import percent, percent_interval
from salve_audit.report.tables import Shown
from salve_audit.report.view.page import ClassName, Medium, Section
from salve_audit.report.view.thumbnails import show
from salve_audit.results import AuditResult, ConceptProperties
from salve_audit.results.reviewable import REGION, Reviewable, entry_head, list_reviewable

MOST = 200  # things in the form; the command line has all of them
CROP = 72  # CSS pixels
VERDICTS = ("accepted", "shortcut", "unclear")


@dataclass(frozen=True)
class ReviewRow:
    """One thing.

    Attributes:
        name: the class.
        what: the concept or factor, in words.
        cost: images lost without it.
        properties: what may tell an object from a shortcut, line by line.
        crop: of it; None: there is no image.
        head: the first lines of its entry in the review file, without the crop.
        key: which names the form's fields.
        said: an earlier verdict; "" without one.
    """

    name: ClassName
    what: str
    cost: str
    properties: tuple[str, ...]
    crop: Shown | None
    head: Markup
    key: str
    said: str


def build_review(
    result: AuditResult,
    names: Mapping[str, ClassName],
    labels: Mapping[str, str],
    reviewed: Mapping[int, str],
    medium: Medium,
) -> Section | None:
    """The form; None where nothing is strong enough, and on paper.

    Args:
        result: with the classes' whole names.
        names: by label.
        labels: by whole name.
        reviewed: verdicts by index of the concept.
        medium: that shows the report.
    """
    things = list_reviewable(result) if medium.name == "html" else ()
    if not things:
        return None
    rows = tuple(_row(thing, i, names[labels[thing.class_name]], reviewed) for i, thing in enumerate(things[:MOST]))
    hidden = len(things) - len(rows)
    parts = {
        "rows": rows,
        "verdicts": VERDICTS,
        "more": say("{n} more: salve-audit review lists them.", n=plural(hidden, "thing")) if hidden else "",
    }
    return Section("review", say("Object or shortcut?"), "review.html.j2", parts)


def _row(thing: Reviewable, index: int, name: ClassName, reviewed: Mapping[int, str]) -> ReviewRow:
    n = 100
    crop = crop_reviewed(thing)
    alt = say("{thing} of {class_name}", thing=_what(thing), class_name=name.label)
    properties = None if thing.concept is None or thing.kind != REGION else thing.concept.properties
    return ReviewRow(
        name=name,
        what=_what(thing),
        cost=f"{percent(thing.drop, n)} ({percent_interval(thing.low, thing.high, n)})",
        properties=() if properties is None or thing.concept is None else say_properties(
            properties, thing.concept.mask_share
        ),
        crop=None if crop is None else show(crop, alt, CROP),
        head=escape(entry_head(thing, None)),
        key=f"review-{index}",
        said="" if thing.concept is None else reviewed.get(thing.concept.index, ""),
    )  # fmt: skip


def _what(thing: Reviewable) -> str:
    if thing.kind == REGION and thing.concept is not None:
        return say("concept {index}", index=thing.concept.index)
    return say(thing.name)


def say_properties(properties: ConceptProperties, mask_share: float) -> tuple[str, ...]:
    """Properties of a concept in short lines, each beside what chance gives."""
    return (
        say("{share} of the image", share=percent(mask_share, properties.n)),
        say(
            "alike from image to image: {alike} (random places: {chance})",
            alike=f"{properties.alike:.2f}",
            chance=f"{properties.alike_chance:.2f}",
        ),
        say(
            "place varies by {spread} of the side (anywhere: {chance}), size by {size}",
            spread=percent(properties.place_spread, properties.n),
            chance=percent(properties.place_chance, properties.n),
            size=percent(properties.size_spread, properties.n),
        ),
    )
