"""The stage whole: from the comparison's strengths and the cached activations to the records of audit.json."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from salve_audit.activations.store import ActivationSplit
from salve_audit.interventions.comparison import ComparisonInputs
from salve_audit.interventions.streams import open_stream
from salve_audit.results import ClassReliance, EnhancementCurve, FeatureInfo, InterventionResult, Stress
from salve_audit.stress.composition import N_DRAWN, compose_edits, draw_chains
from salve_audit.stress.enhancement import enhance_class
from salve_audit.stress.matched_edits import MatchedEdits
from salve_audit.stress.population import Population, choose_population
from salve_audit.stress.recovery import draw_recovery_samples, measure_recovery, sample_size
from salve_audit.stress.sweeps import PRODUCTS, sweep_feature, top_images

log = logging.getLogger(__name__)
SWEEP_BUDGET = 1e12  # multiply-adds of all sweeps, half a minute on two cores
PARTS = 4  # of the stage, as `advance` is told
LEAST_SWEPT = 6  # features that are swept at any cost
SMALL = 1 << 20  # logits of one head, up to which its product is too small for several threads
COMPOSITION_BUDGET = 1e12  # multiply-adds beyond which only the chain of the most fragile classes is walked


@dataclass(frozen=True)
class StressInputs:
    """Inputs of the stress stage.

    Attributes:
        compared: head, features, and both splits, as the comparison of interventions had them.
        results: of that comparison.
        classes: records with the flip medians.
        features: described features; those that are cross-class are swept.
        encoder: (m, d), the encoder's rows.
        audit: all images to audit, of which `compared` may have a part.
        codes: (n, m) of the same.
        seed: of the draws of samples, chains and bootstrap.
    """

    compared: ComparisonInputs
    results: Sequence[InterventionResult]
    classes: Sequence[ClassReliance]
    features: Sequence[FeatureInfo]
    encoder: Float[np.ndarray, "m d"]
    audit: ActivationSplit
    codes: Float[np.ndarray, "n m"]
    seed: int

    def rng(self, purpose: str) -> np.random.Generator:
        """A stream of its own for every purpose."""
        return open_stream(self.seed, purpose)


@dataclass(frozen=True)
class StressOutcome:
    """The records, and the features with their sweeps."""

    stress: Stress
    features: tuple[FeatureInfo, ...]


def stress_edits(inputs: StressInputs, advance: Callable[[int, int], None] | None = None) -> StressOutcome:
    """Enhancement, composition, recovery and sweeps of at most 50 classes, all from cached activations.

    `advance` is told how many of these four are done.
    """
    tell = advance or (lambda done, total: None)
    compared = inputs.compared
    edits = MatchedEdits(compared, inputs.results, inputs.seed)
    population = choose_population(
        compared.audit_acts, compared.audit_labels, edits.head, inputs.classes, inputs.rng("samples")
    )
    log.info("enhancement and sweeps of %d classes", len(population.classes))
    features, n_left = _sweep(inputs, population)
    tell(1, PARTS)
    curves = _enhance(inputs, population)
    tell(2, PARTS)
    small = population.samples.logits.size <= SMALL
    with threadpool_limits(1 if small else None, user_api="blas"):  # threads that wait for each other cost more
        log.info("composition and recovery")
        chains = draw_chains(population, _n_drawn(population, edits), inputs.rng("chains"))
        composition, walked = compose_edits(population, edits, chains, inputs.rng("composition"))
        tell(3, PARTS)
        encoder_rows = inputs.encoder[compared.features]
        drawn = draw_recovery_samples(population, encoder_rows, compared.class_names, inputs.rng("recovery"))
        recovery = measure_recovery(population, edits, drawn)
    stress = Stress(
        class_names=tuple(compared.class_names[index] for index in population.classes),
        n_classes_left_out=population.n_left_out,
        n_samples=len(population.samples.labels),
        n_per_class=sample_size(len(compared.class_names)),
        target_accuracy=edits.target,
        enhancement=curves,
        composition=composition,
        chains=walked,
        recovery=recovery,
        n_sweeps_left_out=n_left,
    )
    return StressOutcome(stress, features)


def _enhance(inputs: StressInputs, population: Population) -> tuple[EnhancementCurve, ...]:
    compared = inputs.compared
    curves = []
    for index in population.classes:
        feature = int(compared.features[index])
        name, direction = compared.class_names[index], compared.dictionary[feature]
        curves.append(enhance_class(population, index, name, feature, direction))
    return tuple(curves)


def _sweep(inputs: StressInputs, population: Population) -> tuple[tuple[FeatureInfo, ...], int]:
    """The features, the cross-class ones with their sweeps as far as the budget goes, and how many have none."""
    shared = [feature for feature in inputs.features if feature.cross_class]
    work = float(population.samples.acts.size) * len(population.head.bias) * PRODUCTS
    most = max(LEAST_SWEPT, int(SWEEP_BUDGET / max(work, 1.0)))
    chosen = sorted(shared, key=lambda feature: (not feature.entangled, -len(feature.affected)))[:most]
    wanted = {feature.index for feature in chosen} if population.classes else set()
    compared = inputs.compared
    done = []
    for feature in inputs.features:
        if feature.index in wanted:
            sweep = sweep_feature(population, feature.index, compared.dictionary[feature.index], compared.class_names)
            images = top_images(inputs.codes[:, feature.index], inputs.audit, compared.class_names)
            opposed = any(each.alpha_hat < 0 for each in sweep.opposed)
            feature = dataclasses.replace(feature, sweep=dataclasses.replace(sweep, images=images), entangled=opposed)
        done.append(feature)
    return tuple(done), len(shared) - len(wanted)


def _n_drawn(population: Population, edits: MatchedEdits) -> int:
    work = float(population.samples.acts.size) * len(population.head.bias) * len(edits.methods) * 7 * (1 + N_DRAWN)
    return N_DRAWN if work <= COMPOSITION_BUDGET else 0
