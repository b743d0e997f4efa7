"""Which concepts are removed by their latents, and on which pictures, so that it costs about what it may."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

from salve_audit.activations.spread import spread_rows
from salve_audit.reliance.depth.assess import ConceptFinding, DepthFindings
from salve_audit.reliance.depth.evidence import Evidence
from salve_audit.reliance.depth.latents.by_pieces import PieceSearch
from salve_audit.reliance.depth.latents.suppression import StrengthSearch

LEAST_EACH = 3  # pictures of each other class
TRIES = 9  # passes per picture: up to the layer, random latents, full strength, and about six strengths


@dataclass(frozen=True)
class RemovalSettings:
    """How much is done, per layer; the numbers of pictures shrink together where the budget asks for it.

    Attributes:
        budget: forward passes as a share of those of the search for evidence, about.
        n_classes: whose strongest concept is removed, at most; those that lose most first.
        n_own: pictures of the class.
        n_chosen: pictures that its latents are found on, others than these where there are enough.
        n_others: pictures of all other classes together.
        n_fitted: pictures of each class that the dictionary is trained on.
        least: pictures that no budget goes below.
        n_latents: of the dictionary; None: as many as channels, from 64 to 512.
        n_active: codes per position; None: a sixteenth of the latents.
        n_steps: of its training; None: the trainer's own number.
        search: of a concept's latents.
        strengths: how finely the smallest strength is searched.
    """

    budget: float = 0.15
    n_classes: int = 20
    n_own: int = 30
    n_chosen: int = 20
    n_others: int = 60
    n_fitted: int = 60
    least: int = 8
    n_latents: int | None = None
    n_active: int | None = None
    n_steps: int | None = None
    search: PieceSearch = field(default_factory=PieceSearch)
    strengths: StrengthSearch = field(default_factory=lambda: StrengthSearch(n_scan=4, tolerance=1 / 32))


@dataclass(frozen=True)
class RemovalTarget:
    """A concept, and rows of the evidence: right ones that it is removed from, and ones that its latents come from."""

    index: int
    concept: ConceptFinding
    own: Int[np.ndarray, " n"]
    chosen: Int[np.ndarray, " q"]


@dataclass(frozen=True)
class RemovalPlan:
    targets: tuple[RemovalTarget, ...]
    others: Int[np.ndarray, " o"]  # right ones of all classes
    fitted: Int[np.ndarray, " f"]


def plan_removals(evidence: Evidence, findings: DepthFindings, settings: RemovalSettings) -> RemovalPlan:
    """Which concepts, on which pictures, so that it costs about the budget."""
    asked = sorted((one for one in findings.classes if one.concept is not None), key=lambda one: -one.reliance.value)
    asked = sorted(asked[: settings.n_classes], key=lambda one: one.label)
    labels, right = evidence.labels.numpy(), evidence.correct.numpy()
    present = np.unique(labels)
    each = max(LEAST_EACH, settings.n_others // max(1, len(present) - 1))
    per_target = TRIES * settings.n_own + 2 * settings.n_chosen + each * len(present)
    cost = settings.n_fitted * len(present) + len(asked) * per_target
    scale = min(1.0, settings.budget * evidence.n_passes / max(1, cost))
    n_own, n_chosen, n_fitted = (
        max(settings.least, round(scale * n)) for n in (settings.n_own, settings.n_chosen, settings.n_fitted)
    )
    each = max(LEAST_EACH, round(scale * each))
    targets = []
    for one in asked:
        assert one.concept is not None, "chosen by it"
        concept = findings.concepts[one.concept]
        own = spread_rows(np.flatnonzero((labels == one.label) & right), n_own)
        shown = np.unique(concept.pictures)
        fresh = np.setdiff1d(shown, own)
        chosen = spread_rows(fresh if len(fresh) >= settings.least else shown, n_chosen)
        targets.append(RemovalTarget(one.concept, concept, own, chosen))
    others = [spread_rows(np.flatnonzero((labels == label) & right), each) for label in present]
    fitted = [spread_rows(np.flatnonzero(labels == label), n_fitted) for label in present]
    return RemovalPlan(tuple(targets), np.concatenate(others), np.concatenate(fitted))
