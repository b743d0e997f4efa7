"""The images of a card: as it is, where the thing is, without it, and the thing put into images of other classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from salve_audit.report.conclusions import Conclusion
from salve_audit.report.language import say
from salve_audit.report.numbers import name
from salve_audit.report.sentences import REGION
from salve_audit.report.tables import Shown
from salve_audit.report.view.thumbnails import show
from salve_audit.results import AuditResult, Concept, ConceptImage, Thumbnail

IMAGE = 72  # CSS pixels
Kept = Callable[[ConceptImage], Thumbnail | None]


@dataclass(frozen=True)
class Picture:
    """One image of a card and what the network answers; image None: there is none in this row."""

    image: Shown | None
    note: str = ""


@dataclass(frozen=True)
class Pictures:
    """The images of a card: labelled columns, and one row for each image of the class."""

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Picture, ...], ...] = ()


def picture_concept(conclusion: Conclusion, result: AuditResult, limit: int, with_heat: bool) -> Pictures:
    """Pictures of what the class depends on; none where no image is kept, or chance explains as much.

    Args:
        conclusion: on the class.
        result: the audit, whose galleries may hold the images as they are.
        limit: rows at most.
        with_heat: heat maps have a column.
    """
    concept = conclusion.concept
    if concept is None or not concept.images:
        return Pictures()
    gallery = result.seeing.images if result.seeing is not None else {}
    shown = concept.images[:limit]

    def plain(image: ConceptImage) -> Thumbnail | None:
        whole = image.image or gallery.get(image.path)
        return whole if concept.kind == REGION else whole or image.outlined

    columns, cells = [], []
    if any(plain(image) is not None for image in shown):
        columns.append(say("Image"))
        cells.append([_plain(concept, plain(image)) for image in shown])
    if concept.kind == REGION:
        columns.append(say("Where"))
        cells.append([_outlined(concept, image) for image in shown])
    if with_heat and any(image.heat is not None for image in shown):
        columns.append(say("Evidence"))
        cells.append([_heat(concept, image) for image in shown])
    columns.append(say("Removed"))
    cells.append([_without(concept, image) for image in shown])
    if any(image.inserted is not None for image in shown):
        columns.append(say("Inserted"))
        cells.append([_inserted(concept, image) for image in shown])
    return Pictures(tuple(columns), tuple(zip(*cells, strict=True)))


def _plain(concept: Concept, image: Thumbnail | None) -> Picture:
    return Picture(None if image is None else show(image, _alt(concept, "An image of {class_name}"), IMAGE))


def _outlined(concept: Concept, image: ConceptImage) -> Picture:
    return Picture(show(image.outlined, _alt(concept, "An image of {class_name} with concept {index} outlined"), IMAGE))


def _heat(concept: Concept, image: ConceptImage) -> Picture:
    if image.heat is None:
        return Picture(None)
    return Picture(show(image.heat, _alt(concept, "Where the evidence for {class_name} lies in it"), IMAGE))


def _without(concept: Concept, image: ConceptImage) -> Picture:
    return Picture(
        show(image.without, _alt(concept, "The same image without it"), IMAGE), answer_without(image, concept)
    )


def answer_without(image: ConceptImage, concept: Concept) -> str:
    """What the prediction becomes without the concept."""
    if not image.flipped:
        return say("stays")
    if image.predicted and image.predicted != concept.class_name:
        return say("becomes {predicted}", predicted=name(image.predicted))
    return say("flips")


def _inserted(concept: Concept, image: ConceptImage) -> Picture:
    inserted = image.inserted
    if inserted is None:
        return Picture(None)
    alt = say(
        "An image of {other} with what {class_name} depends on put into it",
        other=inserted.class_name,
        class_name=concept.class_name,
    )
    return Picture(show(inserted.image, alt, IMAGE), answer_inserted(image))


def answer_inserted(image: ConceptImage) -> str:
    """The class of the other image, and what it is taken for with the concept put into it."""
    inserted = image.inserted
    if inserted is None:
        return ""
    own = name(inserted.class_name)
    if not inserted.predicted:
        return say("{other}: undecided", other=own)
    if inserted.predicted == inserted.class_name:
        return say("{other}: stays", other=own)
    return say("{other}: becomes {predicted}", other=own, predicted=name(inserted.predicted))


def _alt(concept: Concept, text: str) -> str:
    return say(text, class_name=concept.class_name, index=concept.index)
