"""What taking concepts out inside of the network does: their latents, and projections to be moved into weights."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from salve_audit.depth.pictures import DepthPictures
from salve_audit.depth.projections import ConceptProjections, project_concepts
from salve_audit.depth.removals import ExaminedNetwork, remove_concepts
from salve_audit.depth.search import SearchSubject
from salve_audit.errors import SalveError
from salve_audit.reliance.depth import DepthFindings, Evidence
from salve_audit.results import Concept
from salve_audit.spatial import SpatialLayer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DepthRun:
    """One search at depth: the network, the layers that concepts are looked at, the pictures and what was found."""

    asked: SearchSubject
    layers: tuple[SpatialLayer, ...]
    pictures: DepthPictures
    evidence: Evidence
    findings: DepthFindings


@dataclass(frozen=True)
class Inside:
    """Concepts with what their removal inside of the network does, the projections, and the passes it took."""

    concepts: tuple[Concept, ...]
    projections: ConceptProjections
    n_passes: int


def look_inside(run: DepthRun, concepts: Sequence[Concept], classes: Sequence[str]) -> Inside:
    """Removes the concepts that classes rest on most at every layer, and fits the projections that an edit needs.

    Args:
        run: of the search.
        concepts: those of the findings come first, in their order.
        classes: names in output order.
    """
    asked = run.asked
    network = ExaminedNetwork(asked.classifier, asked.head, run.layers, run.pictures.load, classes)
    outcome = remove_concepts(network, run.evidence, run.findings, asked.rng)
    removed = tuple(dataclasses.replace(one, removals=outcome.removals.get(one.index, ())) for one in concepts)
    return Inside(removed, _project(run), outcome.n_passes)


def _project(run: DepthRun) -> ConceptProjections:
    """The projections, or the reason why there are none: they are no part of the findings."""
    try:
        asked, first = run.asked, run.layers[0]
        return project_concepts(asked.classifier, first, run.evidence, run.findings, run.pictures.load, asked.head)
    except SalveError as error:
        why = f"{error.what}: {error.why}"
    except (RuntimeError, MemoryError) as error:
        why = f"they could not be fitted ({error})"
    log.warning("no concept can be taken out of the weights: %s", why)
    return ConceptProjections(why_absent=why)
