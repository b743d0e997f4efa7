"""The audit's part about latents: what a layer, and the prediction, lose when a concept's latents are taken out of it.

Pieces of evidence say what taking a thing out of the picture does. Here the same thing is taken out inside of the
network: those latents of a dictionary of the layer are found that write what the pieces are, and their part of the
layer's output is subtracted at every position. How near the two come to each other says whether the layer holds the
thing as something that can be removed; where removing it costs other classes, they rest on the same latents. A small
drop does not say that little rests on the thing: a few latents often miss it, and other dictionaries miss other things.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int

from salve_audit.depth.at_layer import AtLayer, ExaminedNetwork
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
from salve_audit.reliance.depth.projection import ConceptProjection
from salve_audit.reliance.depth.regions import to_pixels
from salve_audit.reliance.depth.removal import Removal
from salve_audit.results.depth import ConceptRemoval

log = logging.getLogger(__name__)
N_RANDOM = 5  # groups of random latents, each on a part of the pictures
LATENTS = (64, 512)  # of a dictionary: with fewer, several things are one latent; with more, one thing is many
ACTIVE = 16  # one of so many is active at a position
POOLED = 2  # pictures of every class in which a concept of another should change nothing


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
        with _Latents(network, layer, evidence, rng_for, settings) as work:
            records, why = work.try_to(functools.partial(work.remove, plan))
            n_passes += work.n_passes
        for index, record in records.items():
            found.setdefault(index, []).append(record)
        if why is not None:
            log.warning("no concept could be removed at %s (%s)", layer.name, why)
            absent[layer.name] = why
    return RemovalOutcome({index: tuple(records) for index, records in found.items()}, n_passes, absent)


def remove_projected(
    network: ExaminedNetwork,
    projections: Mapping[int, ConceptProjection],
    evidence: Evidence,
    findings: DepthFindings,
    rng_for: Callable[[str], np.random.Generator],
) -> RemovalOutcome:
    """The same for projections of the network's only layer, by index of the concept."""
    settings = RemovalSettings()
    (layer,) = network.layers
    plan = plan_removals(evidence, findings, settings)
    targets = [one for one in plan.targets if one.index in projections]
    chosen = [projections[one.index] for one in targets]
    with AtLayer(network, layer, evidence, rng_for, settings) as work:
        records, why = work.try_to(
            lambda: {
                target.index: dataclasses.replace(record, rank=one.rank)
                for target, one, record in zip(
                    targets, chosen, work.measure_each(targets, chosen, plan.others, _draw_directions), strict=True
                )
            }
        )
    absent = {} if why is None else {layer.name: why}
    return RemovalOutcome({index: (record,) for index, record in records.items()}, work.n_passes, absent)


def _draw_directions(projection: ConceptProjection, rng: np.random.Generator) -> list[Removal]:
    """Orthogonal projections of as many random directions."""
    d = projection.directions.shape[1]
    drawn = [np.linalg.qr(rng.standard_normal((d, projection.rank)))[0].T for _ in range(N_RANDOM)]
    return [ConceptProjection(one, one) for one in drawn]


class _Latents(AtLayer):
    """One layer, and its dictionary."""

    def remove(self, plan: RemovalPlan) -> dict[int, ConceptRemoval]:
        """The records of the plan's concepts by their latents.

        Raises:
            LayerError: the network fails.
        """
        dictionary = self._fit(plan.fitted)
        groups = [LatentGroup(dictionary, one) for one in self._choose(dictionary, plan.targets)]

        def draw(group: LatentGroup, rng: np.random.Generator) -> list[Removal]:
            found = random_groups(dictionary, len(group.latents), N_RANDOM, rng)
            return [LatentGroup(dictionary, one) for one in found]

        records = self.measure_each(plan.targets, groups, plan.others, draw)
        return {
            target.index: dataclasses.replace(record, latents=group.latents, n_latents=dictionary.n_latents)
            for target, group, record in zip(plan.targets, groups, records, strict=True)
        }

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
