"""The reliance stage whole: codes, dictionary and cached activations in, one record per class and feature out."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from salve_audit.reliance.by_class import SampleThresholds, class_thresholds, map_classes, sample_rows
from salve_audit.reliance.effects import describe_features
from salve_audit.reliance.features import FeatureUse, describe_use
from salve_audit.reliance.nulls import NullSettings, control_class
from salve_audit.reliance.scaling import Samples
from salve_audit.reliance.seeds import find_stable, match_dominant
from salve_audit.reliance.summary import ClassEvidence, summarise_class
from salve_audit.reliance.survival import MedianEstimate, compare_classes, estimate_median, flip_times
from salve_audit.results import ClassReliance, FeatureInfo, NullControl

log = logging.getLogger(__name__)
MAX_CONTROLLED = 50  # classes given null controls, the most fragile first


@dataclass(frozen=True)
class RelianceInputs:
    """What the stage works on.

    Attributes:
        fit_codes: (n, m) codes of the fit split.
        fit_labels: (n,) class indices.
        dictionary: (m, d), unit-norm rows.
        audit: audit samples with the head.
        classes: names, in output order.
        seed: of the null controls.
        nulls: how many draws.
        other_dictionaries: (m, d) of other seeds at the same sparsity, for the stability of findings.
    """

    fit_codes: Float[np.ndarray, "n m"]
    fit_labels: npt.NDArray[np.integer]
    dictionary: Float[np.ndarray, "m d"]
    audit: Samples
    classes: tuple[str, ...]
    seed: int
    nulls: NullSettings = field(default_factory=NullSettings)
    other_dictionaries: tuple[Float[np.ndarray, "m d"], ...] = ()


@dataclass(frozen=True)
class Reliance:
    """What the stage found.

    Attributes:
        use: mean codes and dominant latents.
        classes: one record per class with audit samples, in output order.
        features: dominant and cross-class features.
        samples: per-sample thresholds, in the order of the audit split.
    """

    use: FeatureUse
    classes: tuple[ClassReliance, ...]
    features: tuple[FeatureInfo, ...]
    samples: SampleThresholds


def assess_reliance(inputs: RelianceInputs) -> Reliance:
    """Features, thresholds and statistics of every class; no files, no models."""
    use = describe_use(inputs.fit_codes, inputs.fit_labels, inputs.dictionary, inputs.audit.head)
    dictionary = inputs.dictionary.astype(np.float64)
    coupling = np.abs(dictionary[use.dominant])  # (k, d)
    log.info("thresholds of %d samples, %d classes", len(inputs.audit.labels), len(inputs.classes))
    found = class_thresholds(inputs.audit, coupling)
    flips = [flip_times(one, coupling[index]) for index, one in enumerate(found)]
    medians = [estimate_median(times) for times in flips]
    controls = _control(inputs, use, medians)
    differ = compare_classes(flips)
    matches = [(other, *match_dominant(inputs.dictionary, other, use.dominant)) for other in inputs.other_dictionaries]
    stable = find_stable(inputs.audit, medians, matches)
    evidence = [
        ClassEvidence(index, found[index], flips[index], medians[index], controls[index], differ[index], stable[index])
        for index in np.unique(inputs.audit.labels).tolist()  # an output without pictures is a rival, nothing more
    ]
    log.info("curves, redundancy and effects")
    return Reliance(
        use=use,
        classes=tuple(summarise_class(inputs.audit, dictionary, use, inputs.classes, one) for one in evidence),
        features=describe_features(inputs.audit, dictionary, use, inputs.classes),
        samples=sample_rows(inputs.audit, coupling, found),
    )


def _control(inputs: RelianceInputs, use: FeatureUse, medians: list[MedianEstimate]) -> list[NullControl]:
    others = np.setdiff1d(np.flatnonzero(use.alive), use.dominant)
    strengths = np.array([np.inf if one.median is None else one.median for one in medians])
    fragile = np.argsort(strengths, kind="stable")
    controlled = set(fragile[:MAX_CONTROLLED].tolist())
    seeds = np.random.SeedSequence(inputs.seed).spawn(len(medians))

    def work(index: int) -> NullControl:
        if index not in controlled:
            return NullControl(0, None, None, None, None, None, 0, 0)
        rng = np.random.default_rng(seeds[index])
        latents = (int(use.dominant[index]), others)
        return control_class(inputs.audit.of_class(index), index, inputs.dictionary, latents, rng, inputs.nulls)

    return map_classes(work, range(len(medians)))
