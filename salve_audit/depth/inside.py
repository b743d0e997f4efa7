"""What taking concepts out inside of the network does: their latents, and projections to be moved into weights."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from salve_audit.depth.at_layer import ExaminedNetwork
from salve_audit.depth.layers import TRACED
from salve_audit.depth.pictures import DepthPictures
from salve_audit.depth.projections import ConceptProjections, project_concepts
from salve_audit.depth.removals import remove_concepts, remove_projected
from salve_audit.depth.search import SearchSubject
from salve_audit.errors import SalveError
from salve_audit.reliance.depth import DepthFindings, Evidence
from salve_audit.results import Concept
from salve_audit.spatial import SpatialLayer, find_spatial_layers

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
    """Concepts with what their removal inside of the network does; `absent`: layers where it failed, and why."""

    concepts: tuple[Concept, ...]
    projections: ConceptProjections
    n_passes: int
    absent: tuple[str, ...]


def look_inside(run: DepthRun, concepts: Sequence[Concept], classes: Sequence[str]) -> Inside:
    """Removes the concepts that classes rest on most at every layer, and fits the projections that an edit needs.

    Args:
        run: of the search.
        concepts: those of the findings come first, in their order.
        classes: names in output order.
    """
    asked, projections = run.asked, _project(run)
    network = ExaminedNetwork(asked.classifier, asked.head, run.layers, run.pictures.load, classes)
    outcomes = [remove_concepts(network, run.evidence, run.findings, asked.rng)]
    if projections.projections:
        network = dataclasses.replace(network, layers=(_find_layer(run, projections.layer),))
        outcomes.append(remove_projected(network, projections.projections, run.evidence, run.findings, asked.rng))
    removed = []
    for one in concepts:
        removals = [record for found in outcomes for record in found.removals.get(one.index, ())]
        removed.append(dataclasses.replace(one, removals=tuple(removals)))
    absent = tuple(f"{name}: {why}" for found in outcomes for name, why in found.absent.items())
    return Inside(tuple(removed), projections, sum(found.n_passes for found in outcomes), absent)


def _find_layer(run: DepthRun, name: str) -> SpatialLayer:
    """The layer of the projections, which are kept with its name alone."""
    first = run.pictures.load(np.arange(min(TRACED, len(run.pictures)))).to(run.asked.device)
    return next(one for one in find_spatial_layers(run.asked.classifier, first) if one.name == name)


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
