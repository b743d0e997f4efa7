"""The audit's part about latents: what a layer, and the prediction, lose when a concept's latents are taken out of it.

Pieces of evidence say what taking a thing out of the picture does. Here the same thing is taken out inside of the
network: those latents of a dictionary of the layer are found that write what the pieces are, and their part of the
layer's output is subtracted at every position. How near the two come to each other says whether the layer holds the
thing as something that can be removed; where removing it costs other classes, they rest on the same latents. A small
drop does not say that little rests on the thing: a few latents often miss it, and other dictionaries miss other things.
"""

from __future__ import annotations

import functools
import logging
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.errors import SalveError
from salve_audit.inputs.classifier import Classifier
from salve_audit.inputs.head import LinearHead
from salve_audit.inputs.reasons import summarise_error
from salve_audit.reliance.depth.assess import DepthFindings, mask_of
from salve_audit.reliance.depth.evidence import Evidence
from salve_audit.reliance.depth.filling import fill_regions
from salve_audit.reliance.depth.latents.by_pieces import LossTerms, choose_by_loss
from salve_audit.reliance.depth.latents.dictionary import DictionarySettings, PositionDictionary, fit_dictionaries
from salve_audit.reliance.depth.latents.groups import LatentGroup, Latents, random_groups
from salve_audit.reliance.depth.latents.plan import (
    RemovalPlan,
    RemovalSettings,
    RemovalTarget,
    plan_removals,
)
from salve_audit.reliance.depth.latents.positions import PictureSource, sample_positions
from salve_audit.reliance.depth.latents.suppression import (
    ClassDrop,
    median_strength,
    remove_each,
    strengths_in,
    summarise_effect,
)
from salve_audit.reliance.depth.latents.tail import LayerTail
from salve_audit.reliance.depth.regions import to_pixels
from salve_audit.results.depth import ConceptEffect, ConceptRemoval
from salve_audit.spatial.cut import CutNetwork
from salve_audit.spatial.layers import SpatialLayer

log = logging.getLogger(__name__)
N_RANDOM = 5  # groups of random latents, each on a part of the pictures
LATENTS = (64, 512)  # of a dictionary: with fewer, several things are one latent; with more, one thing is many
ACTIVE = 16  # one of so many is active at a position
POOLED = 2  # pictures of every class in which a concept of another should change nothing
BATCH, BATCH_PIXELS = 100, 100 * 96 * 96


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
class RemovalOutcome:
    """What was found.

    Attributes:
        removals: by index of the concept in the findings, one record per layer at which it could be done.
        n_passes: of one picture.
        absent: layers at which it could not be done, and why.
    """

    removals: Mapping[int, tuple[ConceptRemoval, ...]]
    n_passes: int
    absent: Mapping[str, str]


def remove_concepts(
    network: ExaminedNetwork,
    evidence: Evidence,
    findings: DepthFindings,
    rng_for: Callable[[str], np.random.Generator],
    settings: RemovalSettings | None = None,
) -> RemovalOutcome:
    """Removes the concept that each class rests on most at every layer, by its latents there.

    Args:
        network: with its pictures, in the order of the evidence.
        evidence: of `find_evidence`.
        findings: of the same evidence.
        rng_for: purpose -> a generator of its own.
        settings: None: the defaults.
    """
    settings = settings or RemovalSettings()
    plan = plan_removals(evidence, findings, settings)
    found: dict[int, list[ConceptRemoval]] = {}
    absent: dict[str, str] = {}
    n_passes = 0
    for layer in network.layers if plan.targets else ():
        with _AtLayer(network, layer, evidence, rng_for, settings) as work:
            records, why = work.try_to(plan)
            n_passes += work.n_passes
        for index, record in records.items():
            found.setdefault(index, []).append(record)
        if why is not None:
            log.warning("no concept could be removed at %s (%s)", layer.name, why)
            absent[layer.name] = why
    return RemovalOutcome({index: tuple(records) for index, records in found.items()}, n_passes, absent)


class _AtLayer:
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

    def __enter__(self) -> _AtLayer:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut.__exit__()

    @property
    def n_passes(self) -> int:
        return self.tail.n_passes + self._n_others

    def try_to(self, plan: RemovalPlan) -> tuple[dict[int, ConceptRemoval], str | None]:
        """The records, or none and why."""
        try:
            return self._run(plan), None
        except SalveError as error:
            return {}, f"{error.what}: {error.why}"
        except (RuntimeError, MemoryError) as error:  # the network's own code, or a layer too large
            return {}, summarise_error(error)

    def _run(self, plan: RemovalPlan) -> dict[int, ConceptRemoval]:
        dictionary = self._fit(plan.fitted)
        groups = [LatentGroup(dictionary, one) for one in self._choose(dictionary, plan.targets)]
        clean, changed = remove_each(self.tail, groups, plan.others)
        found = {}
        for target, group, without in zip(plan.targets, groups, changed, strict=True):
            rng = self.rng_for(f"removal of {target.index} at {self.layer.name}")
            found[target.index] = self._measure(target, group, (plan.others, clean, without), rng)
        return found

    def _fit(self, rows: Int[np.ndarray, " f"]) -> PositionDictionary:
        rng, settings = self.rng_for(f"dictionary of {self.layer.name}"), self.settings
        some = PictureSource(self.source.labels[rows], lambda part: self.source.load(rows[part]))
        sample = sample_positions(self.cut, some, rng, batch_size=self.batch_size)
        self._n_others += len(rows)
        n_latents = settings.n_latents or int(np.clip(self.layer.layout.channels, *LATENTS))
        seed = int(rng.integers(2**31))
        asked = DictionarySettings(
            "topk",
            n_latents,
            settings.n_active or max(1, n_latents // ACTIVE),
            seed=seed,
            device=self.device,
            n_steps=settings.n_steps,
        )
        (dictionary,) = fit_dictionaries(sample, asked)
        quality = dictionary.quality
        log.info("%s: %d latents explain %.2f ± %.2f", self.layer.name, n_latents, quality.r2, quality.r2_error)
        return dictionary

    def _choose(self, dictionary: PositionDictionary, targets: Sequence[RemovalTarget]) -> list[Latents]:
        """Of each target, by what the layer loses without its pieces."""
        terms = [self._lose(dictionary, one) for one in targets]
        chosen = []
        for place, (shown, _) in enumerate(terms):
            pool = [few for i, (_, few) in enumerate(terms) if i != place]
            others = functools.reduce(operator.add, pool) if pool else None
            chosen.append(choose_by_loss(dictionary, shown, others, self.settings.search))
        return chosen

    def _lose(self, dictionary: PositionDictionary, target: RemovalTarget) -> tuple[LossTerms, LossTerms]:
        """Of its pictures, what the layer loses when their pieces are filled in; of a few, the codes alone."""
        layout, cells = self.layer.layout, mask_of(self.evidence, target.concept)
        terms: list[LossTerms] = []
        for start in range(0, len(target.chosen), self.batch_size):
            rows = target.chosen[start : start + self.batch_size]
            masks = torch.stack([cells[torch.from_numpy(target.concept.pictures == row)].any(0) for row in rows])
            images = self.source.load(rows)
            out = to_pixels(masks[:, None].to(images), (images.shape[2], images.shape[3]))
            with torch.no_grad():
                before = layout.to_positions(self.cut.run(images).output)
                after = layout.to_positions(self.cut.run(fill_regions(images, out)).output)
                codes = dictionary.encode(before)
            if not terms:
                few = LossTerms.of(dictionary, codes[:POOLED])
            terms.append(LossTerms.of(dictionary, codes, before - after))
            self._n_others += 2 * len(rows)
        return functools.reduce(operator.add, terms), few

    def _measure(
        self,
        target: RemovalTarget,
        group: LatentGroup,
        others: tuple[Int[np.ndarray, " o"], Float[np.ndarray, " o"], Float[np.ndarray, " o"]],
        rng: np.random.Generator,
    ) -> ConceptRemoval:
        clean, without, null, strengths = self._remove(target, group, rng)
        rows = others[0]
        elsewhere = self.source.labels[rows] != target.concept.label
        labels = np.concatenate([self.source.labels[target.own], self.source.labels[rows][elsewhere]])
        effect = summarise_effect(
            np.concatenate([clean, others[1][elsewhere]]),
            np.concatenate([without, others[2][elsewhere]]),
            labels,
            target.concept.label,
            rng,
        )
        own, mean = effect.own.drop, effect.mean_others
        alone = not effect.others
        return ConceptRemoval(
            layer=self.layer.name,
            latents=group.latents,
            n_latents=group.dictionary.n_latents,
            n=effect.own.n,
            drop=own.value,
            low=own.low,
            high=own.high,
            strength=median_strength(strengths),
            effect=tuple(self._describe(one) for one in (effect.own, *effect.others)),
            others=None if alone else mean.value,
            others_low=None if alone else mean.low,
            others_high=None if alone else mean.high,
            null=float((null[clean > 0] <= 0).mean()),
        )

    def _remove(
        self, target: RemovalTarget, group: LatentGroup, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of its own pictures: margins before, without it and without random latents, and the smallest strengths."""
        drawn = random_groups(group.dictionary, len(group.latents), N_RANDOM, rng)
        found: list[list[np.ndarray]] = []
        for batch in self.tail.reach(target.own):
            with torch.no_grad():
                codes = group.dictionary.encode(batch.positions)
                part = group.part_of_codes(codes)
                random = torch.empty_like(part)
                for i, one in enumerate(drawn):
                    random[i::N_RANDOM] = LatentGroup(group.dictionary, one).part_of_codes(codes[i::N_RANDOM])
            every = torch.arange(len(batch), device=codes.device)
            margins = [self.tail.clean(batch)]
            margins += [self.tail.margins(batch, batch.positions - one, every) for one in (part, random)]
            margins.append(strengths_in(self.tail, batch, part, self.settings.strengths))
            found.append([one.cpu().numpy() for one in margins])
        clean, without, null, strengths = (np.concatenate(one) for one in zip(*found, strict=True))
        return clean, without, null, strengths

    def _describe(self, one: ClassDrop) -> ConceptEffect:
        return ConceptEffect(self.network.classes[one.label], one.drop.value, one.drop.low, one.drop.high)
