"""What is computed once for all classes and methods, and the edits of one class made from it."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from salve_audit.interventions.affine import AffineHead, Intervention
from salve_audit.interventions.bootstrap import draw_weights
from salve_audit.interventions.comparison import ComparisonInputs, ComparisonSettings, SeedFeatures
from salve_audit.interventions.context import EditContext, FitStatistics, compute_fit_statistics, float64_head
from salve_audit.interventions.registry import METHODS
from salve_audit.interventions.rome import choose_key, draw_keys
from salve_audit.interventions.samples import sort_samples


def open_stream(seed: int, purpose: str, index: int) -> np.random.Generator:
    """One stream of random numbers per purpose (a method, for instance) and class."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), index])


def make_context(
    inputs: ComparisonInputs, index: int, head: AffineHead, fit: FitStatistics, rng: np.random.Generator
) -> EditContext:
    """What the methods are given for class `index`, with the audited seed's feature and the typical key."""
    return EditContext(
        head=head,
        class_index=index,
        feature=int(inputs.features[index]),
        dominant=inputs.features,
        dictionary=inputs.dictionary,
        mean_codes=inputs.mean_codes,
        alive=inputs.alive,
        fit=fit,
        key=choose_key(inputs.fit_acts, np.flatnonzero(inputs.fit_labels == index)),
        rng=rng,
    )


class Workbench:
    """Moments of the fit split, sorted audit samples, the shared bootstrap; read only once made."""

    def __init__(self, settings: ComparisonSettings, inputs: ComparisonInputs) -> None:
        self.settings = settings
        self.inputs = inputs
        self.targets = np.array(settings.targets, dtype=np.float64)
        self.head = float64_head(inputs.head)
        self.fit = compute_fit_statistics(inputs.fit_acts, inputs.fit_labels, inputs.head.n_classes)
        self.samples = sort_samples(inputs.audit_acts, inputs.audit_labels, self.head)
        self.weights = draw_weights(self.samples.counts, settings.n_bootstrap, self.rng("bootstrap", 0))

    def can_compare(self, index: int) -> bool:
        """Are there samples to learn from, to suppress, and to compare with?"""
        counted = self.samples.counts[index] > 0 and self.fit.class_counts[index] > 0
        return bool(counted and self.samples.others(index).any())

    def rng(self, purpose: str, index: int) -> np.random.Generator:
        """One stream per purpose and class."""
        return open_stream(self.settings.seed, purpose, index)

    def context(self, index: int) -> EditContext:
        """What the methods are given for one class."""
        return make_context(self.inputs, index, self.head, self.fit, self.rng("context", index))

    def with_other_keys(self, context: EditContext) -> list[EditContext]:
        """The same with random keys."""
        index = context.class_index
        keys = draw_keys(self.inputs.fit_acts, self._members(index), self.settings.n_keys, self.rng("keys", index))
        return [dataclasses.replace(context, key=key) for key in keys]

    def with_other_seeds(self, context: EditContext) -> list[EditContext]:
        """The same with what the autoencoders of other seeds say."""
        return [_seen_by(seed, context) for seed in self.inputs.other_seeds]

    def intervene(self, method: str, context: EditContext) -> Intervention | None:
        """Each method has its own stream: which others are compared does not change its draws."""
        rng = self.rng(method, context.class_index)
        return METHODS[method](dataclasses.replace(context, rng=rng))

    def present(self, methods: Sequence[str], among: frozenset[str]) -> list[str]:
        """Those of the methods that are among these."""
        return [method for method in methods if method in among]

    def _members(self, index: int) -> Int[np.ndarray, " n_class"]:
        return np.flatnonzero(self.inputs.fit_labels == index)


def _seen_by(seed: SeedFeatures, context: EditContext) -> EditContext:
    return dataclasses.replace(
        context,
        feature=int(seed.features[context.class_index]),
        dominant=seed.features,
        dictionary=seed.dictionary,
        mean_codes=seed.mean_codes,
        alive=seed.alive,
    )
