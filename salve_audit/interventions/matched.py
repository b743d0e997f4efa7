"""Every method brought to the same suppression of every class, and what each then costs the others."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import zlib

import numpy as np
from jaxtyping import Float, Int
from threadpoolctl import threadpool_limits

from salve_audit.interventions.affine import Intervention
from salve_audit.interventions.bootstrap import draw_others, draw_weights, percentile_interval
from salve_audit.interventions.comparison import Comparison, ComparisonInputs, ComparisonSettings
from salve_audit.interventions.context import EditContext, compute_fit_statistics, float64_head
from salve_audit.interventions.measure import (
    Matched,
    compute_drift,
    match_accuracy,
    others_at_targets,
    relative_change,
)
from salve_audit.interventions.registry import KEYED, METHODS
from salve_audit.interventions.rome import choose_key, draw_keys
from salve_audit.interventions.samples import EditedLogits, edit_logits, sort_samples
from salve_audit.interventions.summary import ClassDraws, summarise_methods
from salve_audit.results import InterventionResult, MethodSpread

logger = logging.getLogger(__name__)


def compare_interventions(settings: ComparisonSettings, inputs: ComparisonInputs) -> Comparison:
    """All methods on all classes at all target accuracies (matched suppression, METHOD §5).

    A class without fit or audit samples, or without any other class to compare it with, is left out and logged. One
    that is at or below a target from the start has strength 0 there and counts as reached. Where a method never
    reaches a target, the result is the smallest strength with the lowest accuracy of the class. Where a method
    has nothing to act on (no latent is left for a random null), the class has no result of it; logged once.

    The spread of a method that depends on a key is the lowest, median and highest `others_accuracy` over random
    keys, of those that reach the target (`n_keys` says how many do); without any, there is none.
    """
    compared: list[ClassDraws] = []
    spreads: list[MethodSpread] = []
    with threadpool_limits(1, user_api="blas"):  # many small products: threads that wait for each other cost fourfold
        comparer = _Comparer(settings, inputs)
        for index, name in enumerate(inputs.class_names):
            if comparer.can_compare(index):
                compared.append(comparer.compare_class(index))
                spreads += comparer.measure_spreads(index)
            elif index in inputs.fit_labels or index in inputs.audit_labels:  # else an output, but no class of the data
                logger.warning("class %s has too few samples: no interventions are compared on it", name)
        for method, names in comparer.left_out.items():
            logger.warning("%s has nothing to act on in %d classes and is left out there", method, len(names))
    results = tuple(result for one in compared for result in one.results)
    return Comparison(results, tuple(spreads), summarise_methods(compared))


class _Comparer:
    """Holds what is computed once for all classes and methods."""

    def __init__(self, settings: ComparisonSettings, inputs: ComparisonInputs) -> None:
        self.settings = settings
        self.inputs = inputs
        self.targets = np.array(settings.targets, dtype=np.float64)
        self.left_out: dict[str, list[str]] = {}  # method -> classes in which it has nothing to act on
        self.head = float64_head(inputs.head)
        self.fit = compute_fit_statistics(inputs.fit_acts, inputs.fit_labels, inputs.head.n_classes)
        self.samples = sort_samples(inputs.audit_acts, inputs.audit_labels, self.head)
        self.weights = draw_weights(self.samples.counts, settings.n_bootstrap, self._rng("bootstrap", 0))

    def can_compare(self, index: int) -> bool:
        """Are there samples to learn from, to suppress, and to compare with?"""
        counted = self.samples.counts[index] > 0 and self.fit.class_counts[index] > 0
        return bool(counted and self.samples.others(index).any())

    def compare_class(self, index: int) -> ClassDraws:
        """One result per method and target, with the draws behind its interval."""
        context = self._context(index)
        edits = self._edit(self.settings.methods, [context])
        matches = [match_accuracy(edited, index, self.targets) for edited in edits]
        none = np.zeros((0, len(self.samples.labels)), dtype=bool)
        correct = np.concatenate([none, *(matched.correct for matched in matches)])  # (methods targets, n)
        draws = draw_others(self.weights, correct, self.samples, index)
        bounds = percentile_interval(draws).reshape(len(matches), len(self.targets), 2)
        results = tuple(
            self._result(edited, matched, (index, i), bounds[j, i])
            for j, (edited, matched) in enumerate(zip(edits, matches, strict=True))
            for i in range(len(self.targets))
        )
        return ClassDraws(results, draws)

    def measure_spreads(self, index: int) -> list[MethodSpread]:
        """One spread per method with a key and target that some key reaches."""
        members = self._members(index)
        keys = draw_keys(self.inputs.fit_acts, members, self.settings.n_keys, self._rng("keys", index))
        context = self._context(index)
        contexts = [dataclasses.replace(context, key=key) for key in keys]
        spreads: list[MethodSpread] = []
        for method in (name for name in self.settings.methods if name in KEYED):
            edits = self._edit((method,), contexts)
            measured = [others_at_targets(edited, index, self.targets) for edited in edits]
            for i, target in enumerate(self.settings.targets):
                others = [accuracies[i] for accuracies, reached in measured if reached[i]]
                if others:
                    low, median, high = np.quantile(others, [0.0, 0.5, 1.0]).tolist()
                    name = self.inputs.class_names[index]
                    spreads.append(MethodSpread(method, name, target, len(others), low, median, high))
        return spreads

    def _context(self, index: int) -> EditContext:
        inputs = self.inputs
        return EditContext(
            head=self.head,
            class_index=index,
            feature=int(inputs.features[index]),
            dominant=inputs.features,
            dictionary=inputs.dictionary,
            mean_codes=inputs.mean_codes,
            alive=inputs.alive,
            fit=self.fit,
            key=choose_key(inputs.fit_acts, self._members(index)),
            rng=self._rng("context", index),
        )

    def _edit(self, methods: tuple[str, ...], contexts: list[EditContext]) -> list[EditedLogits]:
        """The edits of these methods in these contexts; one that has nothing to act on is noted and left out."""
        interventions: list[Intervention] = []
        for method, context in itertools.product(methods, contexts):
            # Each method has its own stream: which others are compared does not change its draws.
            rng = self._rng(method, context.class_index)
            intervention = METHODS[method](dataclasses.replace(context, rng=rng))
            if intervention is None:
                self.left_out.setdefault(method, []).append(self.inputs.class_names[context.class_index])
            else:
                interventions.append(intervention)
        return edit_logits(self.samples, interventions)

    def _members(self, index: int) -> Int[np.ndarray, " n_class"]:
        return np.flatnonzero(self.inputs.fit_labels == index)

    def _rng(self, purpose: str, index: int) -> np.random.Generator:
        return np.random.default_rng([self.settings.seed, zlib.crc32(purpose.encode()), index])

    def _result(
        self, edited: EditedLogits, matched: Matched, at: tuple[int, int], bounds: Float[np.ndarray, " 2"]
    ) -> InterventionResult:
        index, i = at  # class and target
        strength = float(matched.strengths[i])
        others = matched.accuracies[i, self.samples.others(index)]
        kl, agreement = compute_drift(edited, index, strength)
        head = edited.intervention.head(strength)
        return InterventionResult(
            method=edited.intervention.method,
            class_name=self.inputs.class_names[index],
            feature=edited.intervention.feature,
            strength=strength,
            target_accuracy=self.settings.targets[i],
            reached_accuracy=float(matched.accuracies[i, index]),
            reached=bool(matched.reached[i]),
            others_accuracy=float(others.mean()),
            others_worst=float(others.min()),
            kl=kl,
            agreement=agreement,
            weight_change=relative_change(self.head.weight, head.weight),
            area=matched.area,
            low=float(bounds[0]),
            high=float(bounds[1]),
            bias_change=relative_change(self.head.bias, head.bias),
        )
