"""The concepts that classes depend on most, fitted as projections of a layer whose change can be moved into weights.

``salve-audit edit --concept`` works from them. They are fitted on images with and without the concept's evidence
regions, at the first layer that all goes through and that only convolutions or linear layers read.

How many directions a concept needs is tried on images, by runs of the network with the concept removed. A cue that
looks the same wherever it lies needs one or two directions; one that covers many positions, each with something else in
it, needs more. Too few leave the class what it was; too many harm other classes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from salve_audit.activations.spread import spread_rows
from salve_audit.activations.streams import copy_for_streams, run_streams
from salve_audit.errors import LayerError
from salve_audit.evidence.findings import ConceptFinding, EvidenceFindings
from salve_audit.evidence.probe import hard_margin, watch_network
from salve_audit.evidence.projection import ConceptProjection, fit_projection, mix_moments
from salve_audit.evidence.regions import fill_regions, to_pixels
from salve_audit.evidence.search import Evidence
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.inputs.reasons import summarise_error
from salve_audit.spatial.layers import SpatialLayer, TraceLayers
from salve_audit.spatial.memo import run_up_to
from salve_audit.spatial.readers import FoldableLayer, find_foldable_layer

log = logging.getLogger(__name__)

RANKS = (1, 2, 4, 8, 16)
TRIED_OWN, TRIED_OTHERS = 16, 28  # images of the concept, and of other classes, that ranks are tried on
ENOUGH = 0.9  # of the images that are misclassified without their regions
COST = 2.0  # of an image of another class that is misclassified, against one of its own too few or too many
BATCH = 16  # images
MOST_CLASSES = 20  # whose concepts are fitted
MOST_IMAGES = 30  # per concept
MOST_RIVALS = 15  # images per other concept of the class
OTHERS = 5  # images of every class without a concept to fit
INSIDE, OUTSIDE, LEAST_COVER = 0.5, 0.05, 1e-6  # share of a position that regions cover
ELSEWHERE, FILLED, RIVALS = 0.3, 1.0, 1.0  # weights in the background, beside 1 for images of other classes
NOT_FOLDABLE = (
    "the network has no layer that the whole computation passes through and that only convolutions or linear layers "
    "read (in transformers, and wherever blocks add to a stream, normalisations and additions read it too), so nothing "
    "removed there can be moved into weights"
)
OUT_OF_TIME = "the time for image reliance was over (--evidence-budget)"

Load = Callable[[Int[np.ndarray, " r"]], Float[Tensor, "r c h w"]]  # rows of the evidence -> prepared images
Read = Callable[[Tensor], Float[Tensor, "b gh gw d"]]
Moments: TypeAlias = tuple[Float[np.ndarray, "d d"], Float[np.ndarray, "d d"]]  # of what is lost, and of the background


@dataclass(frozen=True)
class RankTrials:
    """A network and images to try projections on.

    Attributes:
        classifier: on its device.
        foldable: the layer whose output is projected.
        head: that the audit works on; None: the network's own.
        evidence: with the predictions that flip where regions are removed from the image.
        load: rows of the evidence -> prepared images.
    """

    classifier: Classifier
    foldable: FoldableLayer
    head: LinearHead | None
    evidence: Evidence
    load: Load

    def choose(
        self, concept: ConceptFinding, fit: Callable[[int], ConceptProjection | None]
    ) -> ConceptProjection | None:
        """Choose the rank whose removal is nearest to removing the regions from the images, at least cost.

        More directions are tried only until enough images are misclassified.

        Args:
            concept: whose projections are tried.
            fit: rank -> projection of at most that many directions; None: there is none.
        """
        best, least = None, float("inf")
        shown = spread_rows(np.arange(len(concept.images)), TRIED_OWN)
        rows, labels = concept.images[shown], self.evidence.labels.cpu().numpy()
        aim = float(self.evidence.flips.cpu().numpy()[rows, concept.slots[shown]].mean())
        others = np.flatnonzero((labels != concept.label) & self.evidence.correct.cpu().numpy())
        others = spread_rows(others, TRIED_OTHERS)
        for rank in RANKS:
            projection = fit(rank)
            if projection is None or (best is not None and projection.rank == best.rank):
                break
            flipped = float(self._misclassify(projection, rows).mean())
            lost = float(self._misclassify(projection, others).mean()) if len(others) else 0.0
            score = abs(flipped - aim) + COST * lost
            if score < least:
                best, least = projection, score
            if flipped >= ENOUGH * aim:
                break
        return best

    def _misclassify(self, projection: ConceptProjection, rows: Int[np.ndarray, " r"]) -> Bool[np.ndarray, " r"]:
        """Whether each of these images is misclassified with the concept removed."""
        model, parts = self.classifier.model, []
        device = next(model.parameters()).device
        changed = self.foldable.changing(model, projection.matrix(1.0))
        with torch.no_grad(), changed, watch_network(self.classifier, self.foldable.layer, self.head) as probe:
            for batch in _batches(rows):
                logits = probe(self.load(batch).to(device)).logits.cpu()
                parts.append(hard_margin(logits, self.evidence.labels[torch.from_numpy(batch)].cpu()) <= 0)
        return np.asarray(torch.cat(parts).numpy())


@dataclass(frozen=True)
class ConceptProjections:
    """Projections by index in audit.json's ``concepts``, all at one layer.

    Attributes:
        layer: dotted path of the module; empty without projections.
        projections: by index of the concept.
        why_absent: why there are none; empty where there are some.
    """

    layer: str = ""
    projections: Mapping[int, ConceptProjection] = field(default_factory=lambda: MappingProxyType({}))
    why_absent: str = ""


def project_concepts(
    classifier: Classifier,
    after: SpatialLayer,
    evidence: Evidence,
    findings: EvidenceFindings,
    load: Load,
    head: LinearHead | None = None,
    trace: TraceLayers | None = None,
    late: Callable[[], bool] = lambda: False,
) -> ConceptProjections:
    """Fit a projection of the strongest concept of each of the 20 classes that depend most on theirs.

    Args:
        classifier: on its device.
        after: the layer that distinguished evidence regions; the projections' layer is this one or a later one.
        evidence: of the audit.
        findings: of this evidence; the projections have the indices of its concepts.
        load: rows of the evidence -> prepared images.
        head: that the audit works on; None: the network's own.
        trace: of a `LayerMemo`; None: a pass of its own.
        late: whether no more concepts are to be begun.

    Raises:
        LayerError: a forward pass fails.
    """
    chosen = _choose_concepts(findings)
    if not chosen:
        return ConceptProjections(why_absent="no evidence region was found that a class depends on")
    device = next(classifier.model.parameters()).device
    few = spread_rows(np.arange(len(evidence.labels)), OTHERS)
    foldable = find_foldable_layer(classifier, load(few).to(device), after, trace)
    if foldable is None:
        return ConceptProjections(why_absent=NOT_FOLDABLE)
    read = partial(_read_positions, classifier, foldable.layer)
    moments = _MomentSums(read, evidence, load, device).run(findings, chosen)
    copies = copy_for_streams(classifier, device)
    projections = _choose_ranks(
        [RankTrials(each, foldable, head, evidence, load) for each in copies], findings, moments, late
    )
    log.info("%d concepts as projections at %s", len(projections), foldable.layer.name)
    if not projections and late():
        return ConceptProjections(why_absent=OUT_OF_TIME)
    if not projections:
        return ConceptProjections(why_absent=f"no concept leaves a trace at its layer {foldable.layer.name}")
    return ConceptProjections(foldable.layer.name, projections)


def _choose_ranks(
    streams: Sequence[RankTrials], findings: EvidenceFindings, moments: Mapping[int, Moments], late: Callable[[], bool]
) -> dict[int, ConceptProjection]:
    """The projection of each concept that has one and is begun in time, by index."""

    def choose(trials: RankTrials, index: int) -> ConceptProjection | None:
        return None if late() else trials.choose(findings.concepts[index], partial(fit_projection, *moments[index]))

    fitted = zip(moments, run_streams(streams, choose, list(moments)), strict=True)
    return {index: projection for index, projection in fitted if projection is not None}


def _choose_concepts(findings: EvidenceFindings) -> list[int]:
    """Indices of the concepts that the most dependent classes depend on, the strongest first."""
    ranked = sorted(findings.classes, key=lambda finding: -finding.reliance.value)
    return [finding.concept for finding in ranked[:MOST_CLASSES] if finding.concept is not None]


def _read_positions(classifier: Classifier, layer: SpatialLayer, images: Tensor) -> Float[Tensor, "b gh gw d"]:
    """Run the network as far as the layer, and read its positions."""
    try:
        output = run_up_to(classifier.model, layer.name, images)
    except (RuntimeError, MemoryError) as error:
        raise LayerError(str(classifier.path), f"a forward pass failed ({summarise_error(error)})") from error
    assert output is not None, f"{layer.name} did not run"
    positions = layer.layout.to_positions(output)
    return positions.reshape(len(images), layer.layout.height, layer.layout.width, -1).cpu()


class _SecondMoment:
    """A second moment about zero, added up batch by batch."""

    def __init__(self) -> None:
        self.n, self._total = 0, np.zeros(())

    def add(self, positions: Float[Tensor, "n d"]) -> None:
        values = positions.double()
        self.n += len(values)
        self._total = self._total + (values.T @ values).numpy()

    def without(self, other: _SecondMoment) -> _SecondMoment:
        left = _SecondMoment()
        left.n, left._total = self.n - other.n, self._total - other._total
        return left

    @property
    def moment(self) -> Float[np.ndarray, "d d"]:
        return np.asarray(self._total / max(1, self.n))


@dataclass(frozen=True)
class _RemovedMoments:
    """Moments of what is lost inside removed regions, and of what is there instead."""

    lost: _SecondMoment = field(default_factory=_SecondMoment)
    filled: _SecondMoment = field(default_factory=_SecondMoment)


class _MomentSums:
    """The moments of all concepts of one audit; images come and go in batches, only moments stay."""

    def __init__(self, read: Read, evidence: Evidence, load: Load, device: torch.device) -> None:
        self._read, self._evidence, self._load, self._device = read, evidence, load, device

    def run(self, findings: EvidenceFindings, chosen: Sequence[int]) -> dict[int, Moments]:
        """Moments of what the concepts `chosen` lose where they are removed, and of their background, by index."""
        labels = self._evidence.labels.cpu().numpy()
        by_label = {findings.concepts[index].label: index for index in chosen}
        everything, by_class, elsewhere = _SecondMoment(), {label: _SecondMoment() for label in by_label}, {}
        for label in np.unique(labels).tolist():
            rows = np.flatnonzero(labels == label)
            elsewhere[label] = _SecondMoment()
            shown = spread_rows(rows, MOST_IMAGES if label in by_label else OTHERS)
            self._add_clean(shown, (everything, by_class.get(label)), elsewhere[label])
        moments = {}
        for label, index in by_label.items():
            concept = findings.concepts[index]
            own = self._remove(concept, MOST_IMAGES)
            rivals = [other for other in findings.concepts if other.label == label and other is not concept]
            parts = [(1.0, everything.without(by_class[label])), (ELSEWHERE, elsewhere[label]), (FILLED, own.filled)]
            parts += [(RIVALS / len(rivals), self._remove(rival, MOST_RIVALS).lost) for rival in rivals]
            background = mix_moments([(weight, part.moment) for weight, part in parts if part.n])
            if own.lost.n:
                moments[index] = own.lost.moment, background
        return moments

    def _add_clean(
        self,
        rows: Int[np.ndarray, " r"],
        sums: tuple[_SecondMoment, _SecondMoment | None],
        elsewhere: _SecondMoment,
    ) -> None:
        """Add every position of these images to `sums`, and those outside of all regions to `elsewhere`."""
        for batch in _batches(rows):
            images = self._load(batch).to(self._device)
            values = self._read(images)
            for moment in sums:
                if moment is not None:
                    moment.add(values.flatten(0, 2))
            regions = self._evidence.regions[torch.from_numpy(batch)].any(1, keepdim=True)
            elsewhere.add(values[_cover(to_pixels(regions.float(), _size(images)), values) <= OUTSIDE])

    def _remove(self, concept: ConceptFinding, most: int) -> _RemovedMoments:
        """Moments from removing the concept's regions from at most `most` of the images that show it."""
        moments = _RemovedMoments()
        for batch in _batches(spread_rows(np.arange(len(concept.images)), most)):
            rows, slots = concept.images[batch], torch.from_numpy(concept.slots[batch])
            images = self._load(rows).to(self._device)
            removed = to_pixels(self._evidence.regions[torch.from_numpy(rows), slots][:, None].float(), _size(images))
            before, after = self._read(images), self._read(fill_regions(images, removed.to(images)))
            cover = _cover(removed, before)
            least = cover.amax((1, 2), keepdim=True).clamp(min=LEAST_COVER, max=INSIDE)  # the best of a small region
            moments.lost.add((before - after)[cover >= least])
            moments.filled.add(after[cover >= least])
        return moments


def _size(images: Tensor) -> tuple[int, int]:
    return int(images.shape[2]), int(images.shape[3])


def _batches(rows: Int[np.ndarray, " r"]) -> list[Int[np.ndarray, " b"]]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


def _cover(regions: Float[Tensor, "b 1 h w"], values: Float[Tensor, "b gh gw d"]) -> Float[Tensor, "b gh gw"]:
    """Share of each position that the regions cover."""
    return functional.adaptive_avg_pool2d(regions, (values.shape[1], values.shape[2]))[:, 0]
