"""A second look at some classes: its sample, and how its findings take the place of the first one's."""

from __future__ import annotations

import dataclasses

import numpy as np
from gate_audits import sample

from salve_audit.evidence.projection import ConceptProjection
from salve_audit.evidence.projection_fitting import ConceptProjections
from salve_audit.evidence.second_look import join_looks
from salve_audit.evidence.stage import EvidenceOutcome, choose_again
from salve_audit.results.consistency import check_consistency
from salve_audit.results.schema import to_dict

LABELS = np.repeat(np.arange(4), 100)


def test_the_sample_is_of_undecided_classes_and_a_few_others() -> None:
    sampled = choose_again(LABELS, {2: 90, 0: 95})
    assert np.bincount(LABELS[sampled], minlength=4).tolist() == [95, 16, 90, 16]
    assert LABELS[sampled][:32].tolist() == [1] * 16 + [3] * 16  # the control comes first, so that time leaves it
    assert LABELS[sampled][32:122].tolist() == [2] * 90  # then the first of the classes, as long as there is time
    assert len(set(sampled.tolist())) == len(sampled)


def test_the_control_of_very_many_classes_stays_small() -> None:
    labels = np.repeat(np.arange(1000), 3)
    assert len(choose_again(labels, {5: 3})) == 256 + 3


def outcome(mark: int) -> EvidenceOutcome:
    """The sample's findings, with projections that bear a mark."""
    named = [part.image_reliance.concept for part in sample().classes if part.image_reliance is not None]
    projection = ConceptProjection(np.full((1, 2), float(mark)), np.ones((1, 2)))
    projections = ConceptProjections("layer1", {index: projection for index in named if index is not None})
    evidence = sample().evidence
    assert evidence is not None
    return EvidenceOutcome(sample().classes, sample().concepts, evidence, projections)


def test_findings_of_the_second_look_take_the_place_of_the_first() -> None:
    classes = tuple(
        dataclasses.replace(part, image_reliance=dataclasses.replace(part.image_reliance, n=150, reliance=0.5))
        if part.image_reliance is not None
        else part
        for part in sample().classes
    )
    second = dataclasses.replace(outcome(2), classes=classes)
    labels = tuple(part.index for part in sample().classes if part.name in ("ripple", "chapel"))
    joined = join_looks(outcome(1), second, labels, sample().data.n_audit)
    assert [concept.index for concept in joined.concepts] == list(range(len(sample().concepts)))
    for part in joined.classes:
        reliance, again = part.image_reliance, part.name in ("ripple", "chapel")
        assert reliance is not None
        assert (reliance.n, reliance.examinations) == ((150, 2) if again else (100, 1))
        for index in (reliance.concept, reliance.check.concept if reliance.check else None):
            assert index is None or joined.concepts[index].class_name == part.name
        assert joined.projections is not None
        if reliance.concept is not None:
            assert joined.projections.projections[reliance.concept].directions[0, 0] == (2 if again else 1)
    assert joined.evidence.n_images == 2 * 150 + 6 * 100
    result = dataclasses.replace(sample(), classes=joined.classes, concepts=joined.concepts, evidence=joined.evidence)
    check_consistency(to_dict(result))


def test_a_class_that_the_second_look_did_not_reach_stays() -> None:
    unreached = dataclasses.replace(
        outcome(2), classes=tuple(dataclasses.replace(part, image_reliance=None) for part in sample().classes)
    )
    joined = join_looks(outcome(1), unreached, (0, 1), sample().data.n_audit)
    assert (joined.classes, joined.concepts) == (sample().classes, sample().concepts)
