"""The reliance stage whole: codes, dictionary and cached activations in, one record per class and feature out."""

from __future__ import annotations

import dataclasses
import functools
import logging
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from salve_audit.reliance.by_class import SampleThresholds, class_thresholds, sample_rows
from salve_audit.reliance.effects import describe_features
from salve_audit.reliance.features import FeatureUse
from salve_audit.reliance.nulls import NullSettings, control_class
from salve_audit.reliance.scaling import Samples
from salve_audit.reliance.seeds import find_stable, match_dominant
from salve_audit.reliance.spread import OtherSeed, flips_of_seeds, summarise_spread, trace_seeds
from salve_audit.reliance.summary import AllClasses, ClassEvidence, summarise_classes
from salve_audit.reliance.survival import MedianEstimate, compare_classes, estimate_median, flip_times
from salve_audit.reliance.switches import trace_suppression
from salve_audit.results import ClassReliance, FeatureInfo, NullControl, Suppression
from salve_audit.tasks import TaskMap, map_threads

log = logging.getLogger(__name__)
MAX_CONTROLLED = 50  # classes given null controls and curves over seeds, the most fragile first
SPREAD_STREAM = 1  # beside the seeds of the null controls
SEED_BUDGET = 1e12  # multiply-adds for the thresholds of other seeds, beyond which they are of fewer samples


@dataclass(frozen=True)
class RelianceInputs:
    """Inputs of the reliance stage.

    Attributes:
        use: how the classes use the latents, measured on the fit split.
        dictionary: (m, d), unit-norm rows.
        audit: audit samples with the head.
        classes: names, in output order.
        seed: of the null controls.
        nulls: how many draws.
        other_seeds: the same with other seeds, for the stability of findings and the spread of their numbers.
        anew: as audits with other seeds would choose it: the spread is over these, as far as there are any.
        tasks: runs thresholds and null controls, one task a class.
    """

    use: FeatureUse
    dictionary: Float[np.ndarray, "m d"]
    audit: Samples
    classes: tuple[str, ...]
    seed: int
    nulls: NullSettings = field(default_factory=NullSettings)
    other_seeds: tuple[OtherSeed, ...] = ()
    anew: tuple[OtherSeed, ...] = ()
    tasks: TaskMap = map_threads


@dataclass(frozen=True)
class Reliance:
    """Results of the reliance stage.

    Attributes:
        use: mean codes and dominant latents.
        classes: one record per class with audit samples, in output order.
        features: dominant and cross-class features.
        samples: per-sample thresholds, in the order of the audit split.
        suppression: every change of a prediction under suppression; None: too many to keep.
    """

    use: FeatureUse
    classes: tuple[ClassReliance, ...]
    features: tuple[FeatureInfo, ...]
    samples: SampleThresholds
    suppression: Suppression | None = None


def assess_reliance(inputs: RelianceInputs) -> Reliance:
    """Features, thresholds and statistics of every class; no files, no models."""
    use = inputs.use
    dictionary = inputs.dictionary.astype(np.float64)
    coupling = np.abs(dictionary[use.dominant])  # (k, d)
    log.info("thresholds of %d samples, %d classes", len(inputs.audit.labels), len(inputs.classes))
    thresholds = class_thresholds(inputs.audit, [coupling], inputs.tasks)[0]
    flips = [flip_times(own, coupling[index]) for index, own in enumerate(thresholds)]
    medians = [estimate_median(times) for times in flips]
    controls = _control(inputs, use, medians)
    differ = compare_classes(flips)
    living = inputs.dictionary * use.alive[:, None]  # rows of latents that never fire are fillers: they match nothing
    others = [(seed.dictionary, seed.dictionary * seed.alive[:, None]) for seed in inputs.other_seeds]
    matches = [(rows, *match_dominant(living, own, use.dominant)) for rows, own in others]
    some = _some_for_seeds(inputs)
    stable = find_stable(some, medians, matches, inputs.tasks)
    evidence = [
        ClassEvidence(
            index, thresholds[index], flips[index], medians[index], controls[index], differ[index], stable[index]
        )
        for index in np.unique(inputs.audit.labels).tolist()  # an output without images is a rival, nothing more
    ]
    log.info("curves, redundancy and effects")
    classes = summarise_classes(AllClasses.of(inputs.audit, dictionary, use, inputs.classes), evidence)
    spread = tuple(_add_spread(inputs, some, classes, evidence, coupling))
    return Reliance(
        use=use,
        classes=spread,
        features=describe_features(inputs.audit, dictionary, use, inputs.classes),
        samples=sample_rows(inputs.audit, coupling, thresholds),
        suppression=trace_suppression(inputs.audit, coupling, spread),
    )


def _some_for_seeds(inputs: RelianceInputs) -> Samples:
    """The audit samples, or as many as the thresholds of other seeds can be worked out of, the same share of a class.

    Each seed is looked at twice: by the latents matched to ours, and by its own dominant ones.
    """
    k, d = inputs.audit.head.weight.shape
    return inputs.audit.at_most(int(SEED_BUDGET / (2.0 * max(1, len(inputs.other_seeds)) * k * d)))


def _add_spread(
    inputs: RelianceInputs,
    some: Samples,
    classes: list[ClassReliance],
    evidence: list[ClassEvidence],
    coupling: Float[np.ndarray, "k d"],
) -> list[ClassReliance]:
    """The records with what other seeds find; without other seeds as they are."""
    if not inputs.other_seeds:
        return classes
    seeds = [*inputs.anew, *inputs.other_seeds[len(inputs.anew) :]]
    flips = flips_of_seeds(some, seeds, inputs.tasks)
    couplings = [coupling, *(seed.coupling for seed in seeds)]
    traced = set(_most_fragile([record.median for record in evidence]))
    streams = np.random.SeedSequence([inputs.seed, SPREAD_STREAM]).spawn(len(evidence))
    done = []
    for place, (record, gathered) in enumerate(zip(classes, evidence, strict=True)):
        curve = None
        if place in traced and record.n:
            own = inputs.audit.of_class(gathered.index)
            curve = trace_seeds(own, [each[gathered.index] for each in couplings], record.curve.alpha_hat)
        every = [gathered.flips, *(other[gathered.index] for other in flips)]
        spread = summarise_spread(every, gathered.median, curve, np.random.default_rng(streams[place]))
        done.append(dataclasses.replace(record, seeds=spread))
    return done


def _most_fragile(medians: list[MedianEstimate]) -> list[int]:
    """Places of the classes that get the costly extras."""
    strengths = np.array([np.inf if estimate.median is None else estimate.median for estimate in medians])
    return [int(place) for place in np.argsort(strengths, kind="stable")[:MAX_CONTROLLED]]


def _control(inputs: RelianceInputs, use: FeatureUse, medians: list[MedianEstimate]) -> list[NullControl]:
    others = np.setdiff1d(np.flatnonzero(use.alive), use.dominant)
    controlled = sorted(_most_fragile(medians))
    seeds = np.random.SeedSequence(inputs.seed).spawn(len(medians))
    loads = [
        functools.partial(_load_own, inputs.audit, index, int(use.dominant[index]), seeds[index])
        for index in controlled
    ]
    done = inputs.tasks(_control_own, (inputs.dictionary, others, inputs.nulls), loads)
    by_class, nothing = dict(zip(controlled, done, strict=True)), NullControl(0, None, None, None, None, None, 0, 0)
    return [by_class.get(index, nothing) for index in range(len(medians))]


OwnClass = tuple[Samples, int, int, np.random.SeedSequence]  # samples, index, dominant latent, seed


def _load_own(audit: Samples, index: int, dominant: int, seed: np.random.SeedSequence) -> OwnClass:
    return audit.of_class(index), index, dominant, seed


def _control_own(
    shared: tuple[Float[np.ndarray, "m d"], Int[np.ndarray, " o"], NullSettings], own: OwnClass
) -> NullControl:
    (dictionary, others, settings), (samples, index, dominant, seed) = shared, own
    return control_class(samples, index, dictionary, (dominant, others), np.random.default_rng(seed), settings)
