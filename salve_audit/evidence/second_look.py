"""A second look at classes that the first left undecided: image reliance anew, on more of their images.

What a second look finds takes the place of the first one's findings in the class's record, its concepts and their
projections; records of other classes stay. The record counts both, so that the gate can allow for having looked twice.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence

from salve_audit.evidence.lost_images import LostImages
from salve_audit.evidence.projection_fitting import ConceptProjections
from salve_audit.evidence.stage import EvidenceInputs, EvidenceOutcome, measure_evidence
from salve_audit.results import ClassReliance, Concept, ImageReliance

log = logging.getLogger(__name__)


def look_again(inputs: EvidenceInputs, first: EvidenceOutcome) -> EvidenceOutcome:
    """Examine the classes in `inputs.sizes` again, as far as the time goes; where it fails, the first look stays.

    Args:
        inputs: as those of the first look, with the images per class that are wanted, by class index.
        first: outcome of the first look.
    """
    second = measure_evidence(inputs, first.classes)
    if second.evidence.why_absent:
        log.warning("no second look at undecided classes: %s", second.evidence.why_absent)
        return first
    return join_looks(first, second, tuple(inputs.sizes), len(inputs.labels))


def join_looks(first: EvidenceOutcome, second: EvidenceOutcome, labels: Sequence[int], n_audit: int) -> EvidenceOutcome:
    """The first look with what the second found of these classes, where it came to them.

    Args:
        first: of every class.
        second: of some; other classes that it examined as control are left out.
        labels: class indices that were looked at again.
        n_audit: images of the audit split.
    """
    later = {part.index: part for part in second.classes if part.index in labels and part.image_reliance is not None}
    again = {part.name for part in later.values()}
    old = [concept for concept in first.concepts if concept.class_name not in again]
    new = [concept for concept in second.concepts if concept.class_name in again]
    old_places = {concept.index: i for i, concept in enumerate(old)}
    new_places = {concept.index: len(old) + i for i, concept in enumerate(new)}
    classes = tuple(
        _renumber(later[part.index], new_places, part) if part.index in later else _renumber(part, old_places)
        for part in first.classes
    )
    n_images = sum(part.image_reliance.n for part in classes if part.image_reliance is not None)
    evidence = dataclasses.replace(
        first.evidence,
        n_per_class=max(first.evidence.n_per_class, second.evidence.n_per_class),
        n_passes=first.evidence.n_passes + second.evidence.n_passes,
        n_images=n_images,
        share_of_audit=n_images / n_audit,
    )
    concepts = (*_at(old, old_places), *_at(new, new_places))
    projections = _join_projections((first.projections, old_places), (second.projections, new_places))
    lost = _join_lost(first.lost, second.lost, sorted(later))
    return EvidenceOutcome(classes, concepts, evidence, projections, first.means, lost)


def _join_lost(first: LostImages | None, second: LostImages | None, again: Sequence[int]) -> LostImages | None:
    """Outcomes image by image: the second look's of the classes that it came to."""
    if first is None or second is None:
        return first
    return first.of(again, others=True).join(second.of(again))


def _renumber(record: ClassReliance, places: Mapping[int, int], before: ClassReliance | None = None) -> ClassReliance:
    """The record with its concepts' new numbers; `before`: the record that it takes the place of."""
    reliance = record.image_reliance
    if reliance is None:
        return record
    check = reliance.check
    changed = dataclasses.replace(
        reliance,
        concept=None if reliance.concept is None else places[reliance.concept],
        check=None if check is None else dataclasses.replace(check, concept=places[check.concept]),
        examinations=_count_examinations(reliance, before),
    )
    return dataclasses.replace(record, image_reliance=changed)


def _count_examinations(reliance: ImageReliance, before: ClassReliance | None) -> int:
    if before is None:
        return reliance.examinations
    return 1 + (0 if before.image_reliance is None else before.image_reliance.examinations)


def _at(concepts: Sequence[Concept], places: Mapping[int, int]) -> list[Concept]:
    return [dataclasses.replace(concept, index=places[concept.index]) for concept in concepts]


def _join_projections(*parts: tuple[ConceptProjections | None, Mapping[int, int]]) -> ConceptProjections | None:
    """Projections of both looks under their new numbers; all are of one layer, that of the first that has some."""
    there = [(projections, places) for projections, places in parts if projections is not None]
    with_any = [projections for projections, _ in there if projections.projections]
    if not with_any:
        return there[0][0] if there else None
    joined = {
        places[index]: projection
        for projections, places in there
        if projections.layer == with_any[0].layer
        for index, projection in projections.projections.items()
        if index in places
    }
    return dataclasses.replace(with_any[0], projections=joined)
