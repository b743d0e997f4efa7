"""One layer of a network, and what any removal there does to the predictions of the audit's pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.errors import SalveError
from salve_audit.inputs.classifier import Classifier
from salve_audit.inputs.head import LinearHead
from salve_audit.inputs.reasons import summarise_error
from salve_audit.reliance.depth.evidence import Evidence
from salve_audit.reliance.depth.latents.plan import RemovalSettings, RemovalTarget
from salve_audit.reliance.depth.latents.positions import PictureSource
from salve_audit.reliance.depth.latents.suppression import (
    ClassDrop,
    median_strength,
    remove_each,
    strengths_in,
    summarise_effect,
)
from salve_audit.reliance.depth.latents.tail import LayerTail
from salve_audit.reliance.depth.removal import Removal
from salve_audit.results.depth import ConceptEffect, ConceptRemoval
from salve_audit.spatial.cut import CutNetwork
from salve_audit.spatial.layers import SpatialLayer

BATCH, BATCH_PIXELS = 100, 100 * 96 * 96
RemovalT = TypeVar("RemovalT", bound=Removal)
LayerT = TypeVar("LayerT", bound="AtLayer")


@dataclass(frozen=True)
class ExaminedNetwork:
    """The network and what it is asked about.

    Attributes:
        classifier: on the device where it is to run.
        head: that the audit works on; None: the network's own logits.
        layers: at each of which concepts are removed.
        load: rows of the evidence -> prepared pictures.
        classes: names in output order.
    """

    classifier: Classifier
    head: LinearHead | None
    layers: tuple[SpatialLayer, ...]
    load: Callable[[Int[np.ndarray, " b"]], Float[Tensor, "b c h w"]]
    classes: Sequence[str]


@dataclass(frozen=True)
class Removed:
    """Of a class's own pictures: margins before, without it, without something random, and the smallest strengths."""

    clean: Float[np.ndarray, " n"]
    without: Float[np.ndarray, " n"]
    null: Float[np.ndarray, " n"]
    strengths: Float[np.ndarray, " n"]


class AtLayer:
    """One layer, with a copy of the network cut there."""

    def __init__(
        self,
        network: ExaminedNetwork,
        layer: SpatialLayer,
        evidence: Evidence,
        rng_for: Callable[[str], np.random.Generator],
        settings: RemovalSettings,
    ) -> None:
        classifier = network.classifier
        self.network, self.layer, self.evidence = network, layer, evidence
        self.rng_for, self.settings = rng_for, settings
        self.device = next(classifier.model.parameters()).device
        self.source = PictureSource(evidence.labels.numpy(), lambda rows: network.load(rows).to(self.device))
        self.cut = CutNetwork(classifier.model, layer, classifier.reader, str(classifier.path))
        pixels = classifier.transform.input_size[1] * classifier.transform.input_size[2]
        self.batch_size = max(1, min(BATCH, BATCH_PIXELS // pixels))
        self.tail = LayerTail(self.cut, self.source, network.head, self.batch_size)
        self._n_others = 0  # passes besides the tail's

    def __enter__(self: LayerT) -> LayerT:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut.__exit__()

    @property
    def n_passes(self) -> int:
        return self.tail.n_passes + self._n_others

    def try_to(self, work: Callable[[], dict[int, ConceptRemoval]]) -> tuple[dict[int, ConceptRemoval], str | None]:
        """The records that `work` gives, or none and why."""
        try:
            return work(), None
        except SalveError as error:
            return {}, f"{error.what}: {error.why}"
        except (RuntimeError, MemoryError) as error:  # the network's own code, or a layer too large
            return {}, summarise_error(error)

    def measure_each(
        self,
        targets: Sequence[RemovalTarget],
        removals: Sequence[RemovalT],
        others: Int[np.ndarray, " o"],
        draw: Callable[[RemovalT, np.random.Generator], list[Removal]],
    ) -> list[ConceptRemoval]:
        """A record of each removal, in their order; what it takes out is left for the caller to name.

        Args:
            targets: the concepts, with pictures of their own.
            removals: of these.
            others: rows of right pictures of all classes.
            draw: removals of the same size at random.

        Raises:
            LayerError: the network fails.
        """
        clean, changed = remove_each(self.tail, removals, others)
        found = []
        for target, removal, without in zip(targets, removals, changed, strict=True):
            rng = self.rng_for(f"removal of {target.index} at {self.layer.name}")
            removed = self._remove(target, removal, draw(removal, rng))
            found.append(self._record(target, removed, (others, clean, without), rng))
        return found

    def _record(
        self,
        target: RemovalTarget,
        removed: Removed,
        others: tuple[Int[np.ndarray, " o"], Float[np.ndarray, " o"], Float[np.ndarray, " o"]],
        rng: np.random.Generator,
    ) -> ConceptRemoval:
        """`others`: rows of pictures of all classes, their margins before and without."""
        elsewhere = self.source.labels[others[0]] != target.concept.label
        labels = np.concatenate([self.source.labels[target.own], self.source.labels[others[0]][elsewhere]])
        effect = summarise_effect(
            np.concatenate([removed.clean, others[1][elsewhere]]),
            np.concatenate([removed.without, others[2][elsewhere]]),
            labels,
            target.concept.label,
            rng,
        )
        own, mean = effect.own.drop, effect.mean_others
        alone = not effect.others
        return ConceptRemoval(
            layer=self.layer.name,
            latents=(),
            n_latents=0,
            n=effect.own.n,
            drop=own.value,
            low=own.low,
            high=own.high,
            strength=median_strength(removed.strengths),
            effect=tuple(self._describe(one) for one in (effect.own, *effect.others)),
            others=None if alone else mean.value,
            others_low=None if alone else mean.low,
            others_high=None if alone else mean.high,
            null=float((removed.null[removed.clean > 0] <= 0).mean()),
        )

    def _remove(self, target: RemovalTarget, removal: Removal, drawn: Sequence[Removal]) -> Removed:
        """From its own pictures; each of those drawn at random from a part of them."""
        found: list[list[np.ndarray]] = []
        for batch in self.tail.reach(target.own):
            with torch.no_grad():
                part = removal.part(batch.positions)
                random = torch.empty_like(part)
                for i, one in enumerate(drawn[: len(batch)]):
                    random[i :: len(drawn)] = one.part(batch.positions[i :: len(drawn)])
            every = torch.arange(len(batch), device=part.device)
            margins = [self.tail.clean(batch)]
            margins += [self.tail.margins(batch, batch.positions - one, every) for one in (part, random)]
            margins.append(strengths_in(self.tail, batch, part, self.settings.strengths))
            found.append([one.cpu().numpy() for one in margins])
        return Removed(*(np.concatenate(one) for one in zip(*found, strict=True)))

    def _describe(self, one: ClassDrop) -> ConceptEffect:
        return ConceptEffect(self.network.classes[one.label], one.drop.value, one.drop.low, one.drop.high)
