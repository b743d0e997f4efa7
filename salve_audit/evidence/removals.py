"""What predictions lose when a concept is removed inside the network, by the projection that an edit would apply.

Evidence regions say what removing a thing from the image does. Here the thing is removed at every position of a layer,
and the rest of the network runs on that. How near the two come says whether the layer holds the thing as something that
can be removed; where other classes lose as well, they depend on the same directions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.activations.streams import copy_for_streams, fit_batch, run_streams
from salve_audit.errors import SalveError
from salve_audit.evidence.findings import EvidenceFindings
from salve_audit.evidence.projection import ConceptProjection, Removal
from salve_audit.evidence.projection_fitting import OUT_OF_TIME
from salve_audit.evidence.search import Evidence
from salve_audit.evidence.suppression import (
    ClassDrop,
    RemovalPlan,
    RemovalSettings,
    RemovalTarget,
    median_strength,
    plan_removals,
    remove_each,
    strengths_in,
    summarise_effect,
)
from salve_audit.evidence.tail import ImageLoader, LayerTail
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.inputs.reasons import summarise_error
from salve_audit.results import ConceptEffect, ConceptRemoval
from salve_audit.spatial.cut import CutNetwork
from salve_audit.spatial.layers import SpatialLayer

log = logging.getLogger(__name__)
N_RANDOM = 5  # random projections, each on a part of the images
BATCH, BATCH_PIXELS = 16, 2**19  # images at once, which are read without processes, and their pixels


@dataclass(frozen=True)
class ExaminedNetwork:
    """The network that concepts are removed in, and the images that it runs on.

    Attributes:
        classifier: on the device where it runs.
        head: that the audit works on; None: the network's own logits.
        layer: at whose positions concepts are removed.
        load: rows of the evidence -> prepared images.
        classes: names in output order.
    """

    classifier: Classifier
    head: LinearHead | None
    layer: SpatialLayer
    load: Callable[[Int[np.ndarray, " b"]], Float[Tensor, "b c h w"]]
    classes: Sequence[str]


@dataclass(frozen=True)
class RemovalOutcome:
    """The removals that were measured.

    Attributes:
        removals: by index of the concept in the findings.
        n_passes: forward passes of one image.
        why_absent: why nothing could be removed; empty where it could.
    """

    removals: Mapping[int, ConceptRemoval]
    n_passes: int
    why_absent: str = ""


def remove_projected(
    network: ExaminedNetwork,
    projections: Mapping[int, ConceptProjection],
    evidence: Evidence,
    findings: EvidenceFindings,
    rng_for: Callable[[str], np.random.Generator],
    late: Callable[[], bool] = lambda: False,
) -> RemovalOutcome:
    """Remove the projected concepts at the network's layer, each by itself, and measure what predictions lose.

    Args:
        network: with its images, in the order of the evidence.
        projections: by index of the concept in the findings.
        evidence: of `find_evidence`.
        findings: of the same evidence.
        rng_for: purpose -> a generator of its own.
        late: whether no more concepts are to be begun.
    """
    settings = RemovalSettings()
    plan = plan_removals(evidence, findings, settings)
    targets = [target for target in plan.targets if target.index in projections]
    device = next(network.classifier.model.parameters()).device
    copies = copy_for_streams(network.classifier, device)
    with ExitStack() as stack:
        streams = [
            stack.enter_context(_LayerRemoval(replace(network, classifier=copy), evidence, rng_for, settings))
            for copy in copies
        ]
        try:
            records = _measure_each(streams, [(target, projections[target.index]) for target in targets], plan, late)
        except SalveError as error:
            why = f"{error.what}: {error.why}"
        except (RuntimeError, MemoryError) as error:  # the network's own code, or a layer too large
            why = summarise_error(error)
        else:
            why_absent = OUT_OF_TIME if targets and not records else ""
            return RemovalOutcome(records, sum(stream.n_passes for stream in streams), why_absent)
        log.warning("no concept could be removed at %s (%s)", network.layer.name, why)
        return RemovalOutcome({}, sum(stream.n_passes for stream in streams), f"{network.layer.name}: {why}")


def _measure_each(
    streams: Sequence[_LayerRemoval],
    targets: Sequence[tuple[RemovalTarget, ConceptProjection]],
    plan: RemovalPlan,
    late: Callable[[], bool],
) -> dict[int, ConceptRemoval]:
    """Measure each target's removal by its projection, as records by index of the concept, as far as time allows.

    Raises:
        LayerError: the network fails.
    """
    size = streams[0].tail.batch_size
    parts = [plan.others[start : start + size] for start in range(0, len(plan.others), size)]
    if not parts or late():
        return {}
    every = [projection for _, projection in targets]
    done = list(run_streams(streams, lambda stream, rows: remove_each(stream.tail, every, rows), parts))
    clean, changed = (np.concatenate(values, axis=-1) for values in zip(*done, strict=True))

    def measure(stream: _LayerRemoval, i: int) -> ConceptRemoval | None:
        return None if late() else stream.measure(*targets[i], (plan.others, clean, changed[i]))

    records = zip(targets, run_streams(streams, measure, range(len(targets))), strict=True)
    return {target.index: record for (target, _), record in records if record is not None}


def _draw_directions(projection: ConceptProjection, rng: np.random.Generator) -> list[Removal]:
    """Draw controls: orthogonal projections of as many random directions."""
    d = projection.directions.shape[1]
    drawn = [np.linalg.qr(rng.standard_normal((d, projection.rank)))[0].T for _ in range(N_RANDOM)]
    return [ConceptProjection(directions, directions) for directions in drawn]


@dataclass(frozen=True)
class _Margins:
    """Margins (n,) of a class's own images: clean, without the concept, without random directions; flip strengths."""

    clean: Float[np.ndarray, " n"]
    without: Float[np.ndarray, " n"]
    random: Float[np.ndarray, " n"]
    strengths: Float[np.ndarray, " n"]


class _LayerRemoval:
    """Removals at a layer, by a copy of the network that is cut there."""

    def __init__(
        self,
        network: ExaminedNetwork,
        evidence: Evidence,
        rng_for: Callable[[str], np.random.Generator],
        settings: RemovalSettings,
    ) -> None:
        classifier, layer = network.classifier, network.layer
        self.network, self.layer, self.rng_for, self.settings = network, layer, rng_for, settings
        device = next(classifier.model.parameters()).device
        self.source = ImageLoader(evidence.labels.numpy(), lambda rows: network.load(rows).to(device))
        self.cut = CutNetwork(classifier.model, layer, classifier.reader, str(classifier.path))
        _, height, width = classifier.transform.input_size
        batch_size = fit_batch(BATCH, BATCH_PIXELS, (height, width))
        self.tail = LayerTail(self.cut, self.source, network.head, batch_size)

    def __enter__(self) -> _LayerRemoval:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut.__exit__()

    @property
    def n_passes(self) -> int:
        return self.tail.n_passes

    def measure(
        self,
        target: RemovalTarget,
        projection: ConceptProjection,
        others: tuple[Int[np.ndarray, " o"], Float[np.ndarray, " o"], Float[np.ndarray, " o"]],
    ) -> ConceptRemoval:
        """Measure what removing one concept does.

        Args:
            target: the concept and its own images.
            projection: of the concept.
            others: rows of images of all classes, their clean margins and those without the concept.

        Raises:
            LayerError: the network fails.
        """
        rng = self.rng_for(f"removal of {target.index} at {self.layer.name}")
        margins = self._remove(target, projection, _draw_directions(projection, rng))
        return replace(self._record(target, margins, others, rng), rank=projection.rank)

    def _record(
        self,
        target: RemovalTarget,
        margins: _Margins,
        others: tuple[Int[np.ndarray, " o"], Float[np.ndarray, " o"], Float[np.ndarray, " o"]],
        rng: np.random.Generator,
    ) -> ConceptRemoval:
        """Describe the removal; `others` are rows of images of all classes, their clean margins and those without."""
        elsewhere = self.source.labels[others[0]] != target.concept.label
        labels = np.concatenate([self.source.labels[target.own], self.source.labels[others[0]][elsewhere]])
        effect = summarise_effect(
            np.concatenate([margins.clean, others[1][elsewhere]]),
            np.concatenate([margins.without, others[2][elsewhere]]),
            labels,
            target.concept.label,
            rng,
        )
        own, mean = effect.own.drop, effect.mean_others
        alone = not effect.others  # no other class has an image that was correct
        return ConceptRemoval(
            layer=self.layer.name,
            n=effect.own.n,
            drop=own.value,
            low=own.low,
            high=own.high,
            strength=median_strength(margins.strengths),
            effect=tuple(self._describe(drop) for drop in (effect.own, *effect.others)),
            others=None if alone else mean.value,
            others_low=None if alone else mean.low,
            others_high=None if alone else mean.high,
            chance=float((margins.random[margins.clean > 0] <= 0).mean()),
            rank=0,
        )

    def _remove(self, target: RemovalTarget, removal: Removal, drawn: Sequence[Removal]) -> _Margins:
        """Measure margins of the class's own images; each of the random removals acts on a part of them."""
        parts: list[list[np.ndarray]] = []
        for batch in self.tail.reach(target.own):
            with torch.no_grad():
                part = removal.part(batch.positions)
                random = torch.empty_like(part)
                for i, control in enumerate(drawn[: len(batch)]):
                    random[i :: len(drawn)] = control.part(batch.positions[i :: len(drawn)])
            every = torch.arange(len(batch), device=part.device)
            margins = [self.tail.clean(batch)]
            margins += [self.tail.margins(batch, batch.positions - removed, every) for removed in (part, random)]
            margins.append(strengths_in(self.tail, batch, part, self.settings.strengths))
            parts.append([values.cpu().numpy() for values in margins])
        return _Margins(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    def _describe(self, drop: ClassDrop) -> ConceptEffect:
        return ConceptEffect(self.network.classes[drop.label], drop.drop.value, drop.drop.low, drop.drop.high)
