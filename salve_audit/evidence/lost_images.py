"""Image by image, what the strongest removal of its class did: the outcomes that image reliance is the mean of.

By these an audit and its baseline can be compared on the same images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from salve_audit.evidence.factors.measure import UNSEEN, ExaminedImages, FactorAnswers
from salve_audit.evidence.findings import EvidenceFindings, flips_without_concept
from salve_audit.evidence.search import Evidence
from salve_audit.results import Concept, ImageReliance


@dataclass(frozen=True)
class LostImages:
    """The images that image reliance was measured on.

    Attributes:
        rows: (m,) of the audit split.
        labels: (m,) class indices.
        lost: (m,) 1: correct, and misclassified without what its class depends on most; 0: not; the share of the
            draws where there were several; nan: it was not removed from this image.
    """

    rows: Int[np.ndarray, " m"]
    labels: Int[np.ndarray, " m"]
    lost: Float[np.ndarray, " m"]

    def of(self, labels: Sequence[int], others: bool = False) -> LostImages:
        """The images of these classes; with `others`, of all but these."""
        mine = np.isin(self.labels, labels) != others
        return LostImages(self.rows[mine], self.labels[mine], self.lost[mine])

    def join(self, more: LostImages) -> LostImages:
        """These images and more of them."""
        pairs = ((self.rows, more.rows), (self.labels, more.labels), (self.lost, more.lost))
        return LostImages(*(np.concatenate(pair) for pair in pairs))

    def of_audit(self, n: int) -> Float[np.ndarray, " n"]:
        """The outcome of each of the n images of the audit split."""
        every = np.full(n, np.nan)
        every[self.rows] = self.lost
        return every


@dataclass(frozen=True)
class Removals:
    """Everything that was removed from the examined images.

    Attributes:
        evidence, findings: of evidence regions.
        answers: of global factors, by name.
        examined: the same images.
        backgrounds: (n,) share of other classes' backgrounds that each is misclassified on; nan: none was tried.
    """

    evidence: Evidence
    findings: EvidenceFindings
    answers: Mapping[str, FactorAnswers]
    examined: ExaminedImages
    backgrounds: Float[np.ndarray, " n"]


def mark_lost(
    records: Mapping[int, ImageReliance], concepts: Sequence[Concept], removals: Removals
) -> Float[np.ndarray, " n"]:
    """What the strongest removal of its class did to each examined image.

    Args:
        records: by class index; the mean over a class's images is its image reliance.
        concepts: those of the findings first, in their order.
        removals: the outcomes.
    """
    labels = removals.examined.labels
    lost = np.full(len(labels), np.nan)
    for label, record in records.items():
        own = labels == label
        if record.concept is None:  # no removal costs the class anything
            lost[own] = 0.0
            continue
        lost[own] = _outcomes(concepts[record.concept], removals)[own]
    return lost


def _outcomes(concept: Concept, removals: Removals) -> Float[np.ndarray, " n"]:
    if not concept.factor:
        flipped = flips_without_concept(removals.evidence, removals.findings.concepts[concept.index])
        return flipped.astype(float)
    answers = removals.answers.get(concept.factor)
    if answers is None:
        return removals.backgrounds
    flipped = (answers.removed != removals.examined.labels) & removals.examined.correct
    return np.where(answers.removed == UNSEEN, np.nan, flipped.astype(float))
