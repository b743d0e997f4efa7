"""The concepts that classes rest on most, as projections of a layer whose change can be moved into weights.

What the audit leaves for ``salve-audit edit --concept``: fitted on pictures with and without the concept's pieces, at
the first layer that all goes through and that only convolutions or linear layers read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from salve_audit.activations.spread import spread_rows
from salve_audit.depth.ranks import Load, RankTrials
from salve_audit.errors import LayerError
from salve_audit.inputs.classifier import Classifier
from salve_audit.inputs.head import LinearHead
from salve_audit.inputs.reasons import summarise_error
from salve_audit.reliance.depth.assess import ConceptFinding, DepthFindings
from salve_audit.reliance.depth.evidence import Evidence
from salve_audit.reliance.depth.filling import fill_regions
from salve_audit.reliance.depth.projection import ConceptProjection, fit_projection, mix_moments
from salve_audit.reliance.depth.regions import to_pixels
from salve_audit.spatial.layers import SpatialLayer
from salve_audit.spatial.readers import find_foldable_layer

log = logging.getLogger(__name__)
MOST_CLASSES = 20  # whose concepts are fitted
MOST_PICTURES = 30  # per concept
MOST_RIVALS = 15  # pictures per other concept of the class
OTHERS = 5  # pictures of every class without a concept to fit
BATCH = 16
INSIDE, OUTSIDE, LEAST_COVER = 0.5, 0.05, 1e-6  # share of a position that pieces cover
ELSEWHERE, FILLED, RIVALS = 0.3, 1.0, 1.0  # weights in the background, beside 1 for pictures of other classes
NOT_FOLDABLE = (
    "its network has no layer that all goes through and that only convolutions or linear layers read (in transformers, "
    "and wherever blocks add to a stream, normalisations and additions read it too), so nothing taken out there "
    "can be moved into weights"
)


@dataclass(frozen=True)
class ConceptProjections:
    """Projections by index in audit.json's ``concepts``, all at one layer.

    Attributes:
        layer: dotted path of the module; empty where there is none.
        projections: by index.
        why_absent: why there is none.
    """

    layer: str = ""
    projections: Mapping[int, ConceptProjection] = field(default_factory=lambda: MappingProxyType({}))
    why_absent: str = ""


def project_concepts(
    classifier: Classifier,
    after: SpatialLayer,
    evidence: Evidence,
    findings: DepthFindings,
    load: Load,
    head: LinearHead | None = None,
) -> ConceptProjections:
    """The strongest place of every class, as a projection, of the 20 classes that rest most on theirs.

    Args:
        classifier: on its device.
        after: the layer that the evidence was looked at; the projections' layer is this one or a later one.
        evidence: of the audit.
        findings: of this evidence; the indices of its concepts are kept.
        load: gives pictures of the evidence by their rows.
        head: as audited; None: the network's own.

    Raises:
        LayerError: a forward pass fails.
    """
    ranked = sorted(findings.classes, key=lambda one: -one.reliance.value)
    chosen = sorted(one.concept for one in ranked[:MOST_CLASSES] if one.concept is not None)
    if not chosen:
        return ConceptProjections(why_absent="no place in the pictures was found that a class rests on")
    device = next(classifier.model.parameters()).device
    few = spread_rows(np.arange(len(evidence.labels)), OTHERS)
    found = find_foldable_layer(classifier, load(few).to(device), after)
    if found is None:
        return ConceptProjections(why_absent=NOT_FOLDABLE)
    with _reading(classifier, found.layer) as read:
        moments = _Gather(read, evidence, load, device).run(findings, chosen)
    trials, projections = RankTrials(classifier, found, head, evidence, load), {}
    for index, (lost, background) in moments.items():
        fit = partial(fit_projection, lost, background)
        projection = trials.choose(findings.concepts[index], fit)
        if projection is not None:
            projections[index] = projection
    log.info("%d concepts as projections at %s", len(projections), found.layer.name)
    if not projections:
        return ConceptProjections(why_absent=f"no concept leaves a trace at its layer {found.layer.name}")
    return ConceptProjections(found.layer.name, projections)


Read = Callable[[Tensor], Float[Tensor, "b gh gw d"]]
Moments: TypeAlias = tuple[Float[np.ndarray, "d d"], Float[np.ndarray, "d d"]]  # of what is lost, and of the background


class _Reached(Exception):
    """No error: the layer is done, and what follows is not needed."""


@contextmanager
def _reading(classifier: Classifier, layer: SpatialLayer) -> Iterator[Read]:
    """The layer's positions of prepared pictures, while the block runs; the network stops there."""
    outputs: list[Tensor] = []

    def stop(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
        outputs.append(output)
        raise _Reached

    def read(images: Tensor) -> Tensor:
        """Runs the network as far as the layer."""
        outputs.clear()
        try:
            with torch.no_grad():
                classifier.model(images)
        except _Reached:
            pass
        except (RuntimeError, MemoryError) as error:
            raise LayerError(str(classifier.path), f"a forward pass failed ({summarise_error(error)})") from error
        assert outputs, f"{layer.name} did not run"
        positions = layer.layout.to_positions(outputs[0])
        return positions.reshape(len(images), layer.layout.height, layer.layout.width, -1).cpu()

    handle = classifier.model.get_submodule(layer.name).register_forward_hook(stop)
    try:
        yield read
    finally:
        handle.remove()


class _Sum:
    """A second moment about zero, added up."""

    def __init__(self) -> None:
        self.n, self._total = 0, np.zeros(())

    def add(self, positions: Float[Tensor, "n d"]) -> None:
        values = positions.double()
        self.n += len(values)
        self._total = self._total + (values.T @ values).numpy()

    def without(self, other: _Sum) -> _Sum:
        left = _Sum()
        left.n, left._total = self.n - other.n, self._total - other._total
        return left

    @property
    def moment(self) -> Float[np.ndarray, "d d"]:
        return np.asarray(self._total / max(1, self.n))


@dataclass(frozen=True)
class _Taken:
    """What taking pieces out leaves: moments of what is lost inside of them, and of what is there instead."""

    lost: _Sum = field(default_factory=_Sum)
    filled: _Sum = field(default_factory=_Sum)


class _Gather:
    """All concepts of one audit; pictures come and go in batches, only moments stay."""

    def __init__(self, read: Read, evidence: Evidence, load: Load, device: torch.device) -> None:
        self._read, self._evidence, self._load, self._device = read, evidence, load, device

    def run(self, findings: DepthFindings, chosen: Sequence[int]) -> dict[int, Moments]:
        """What the concepts `chosen` lose where they are taken out, and their background."""
        labels = self._evidence.labels.cpu().numpy()
        by_label = {findings.concepts[index].label: index for index in chosen}
        everything, whole, elsewhere = _Sum(), {label: _Sum() for label in by_label}, {}
        for label in np.unique(labels).tolist():
            rows = np.flatnonzero(labels == label)
            elsewhere[label] = _Sum()
            some = spread_rows(rows, MOST_PICTURES if label in by_label else OTHERS)
            self._add_clean(some, (everything, whole.get(label)), elsewhere[label])
        found = {}
        for label, index in by_label.items():
            own = self._take(findings.concepts[index], MOST_PICTURES)
            rivals = [one for one in findings.concepts if one.label == label and one is not findings.concepts[index]]
            parts = [(1.0, everything.without(whole[label])), (ELSEWHERE, elsewhere[label]), (FILLED, own.filled)]
            parts += [(RIVALS / len(rivals), self._take(one, MOST_RIVALS).lost) for one in rivals]
            background = mix_moments([(weight, one.moment) for weight, one in parts if one.n])
            if own.lost.n:
                found[index] = own.lost.moment, background
        return found

    def _add_clean(self, rows: Int[np.ndarray, " r"], sums: tuple[_Sum, _Sum | None], elsewhere: _Sum) -> None:
        """Every position of these pictures, and those outside of all pieces."""
        for some in _batches(rows):
            images = self._load(some).to(self._device)
            values = self._read(images)
            for one in sums:
                if one is not None:
                    one.add(values.flatten(0, 2))
            pieces = self._evidence.regions[torch.from_numpy(some)].any(1, keepdim=True)
            elsewhere.add(values[_cover(to_pixels(pieces.float(), _size(images)), values) <= OUTSIDE])

    def _take(self, concept: ConceptFinding, most: int) -> _Taken:
        """The concept's pieces taken out of some of the pictures that show it."""
        taken = _Taken()
        for some in _batches(spread_rows(np.arange(len(concept.pictures)), most)):
            rows, pieces = concept.pictures[some], torch.from_numpy(concept.pieces[some])
            images = self._load(rows).to(self._device)
            out = to_pixels(self._evidence.regions[torch.from_numpy(rows), pieces][:, None].float(), _size(images))
            before, after = self._read(images), self._read(fill_regions(images, out.to(images)))
            cover = _cover(out, before)
            least = cover.amax((1, 2), keepdim=True).clamp(min=LEAST_COVER, max=INSIDE)  # the best of a small piece
            taken.lost.add((before - after)[cover >= least])
            taken.filled.add(after[cover >= least])
        return taken


def _size(images: Tensor) -> tuple[int, int]:
    return int(images.shape[2]), int(images.shape[3])


def _batches(rows: Int[np.ndarray, " r"]) -> list[Int[np.ndarray, " b"]]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


def _cover(pieces: Float[Tensor, "b 1 h w"], values: Float[Tensor, "b gh gw d"]) -> Float[Tensor, "b gh gw"]:
    """What share of each position the pieces cover."""
    return functional.adaptive_avg_pool2d(pieces, (values.shape[1], values.shape[2]))[:, 0]
