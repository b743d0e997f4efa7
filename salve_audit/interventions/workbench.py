"""Quantities computed once for all classes and methods, and the edits of one class made from them."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Int

from salve_audit.interventions.affine import AffineHead, Intervention
from salve_audit.interventions.bootstrap import draw_weights
from salve_audit.interventions.comparison import ComparisonInputs, ComparisonSettings, SeedFeatures
from salve_audit.interventions.context import EditContext, FitStatistics, compute_fit_statistics, float64_head
from salve_audit.interventions.registry import METHODS
from salve_audit.interventions.rome import choose_key, draw_keys
from salve_audit.interventions.samples import sort_samples
from salve_audit.interventions.streams import open_stream


def make_context(
    inputs: ComparisonInputs, index: int, head: AffineHead, fit: FitStatistics, rng: np.random.Generator
) -> EditContext:
    """The methods' input for class `index`, with the audited seed's feature and the typical key."""
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
        """True if there are samples to learn from, to suppress, and to compare with."""
        counted = self.samples.counts[index] > 0 and self.fit.class_counts[index] > 0
        return bool(counted and self.samples.others(index).any())

    def rng(self, purpose: str, index: int) -> np.random.Generator:
        """One stream per purpose and class."""
        return open_stream(self.settings.seed, purpose, index)

    def context(self, index: int) -> EditContext:
        """The methods' input for one class."""
        return make_context(self.inputs, index, self.head, self.fit, self.rng("context", index))

    def with_other_keys(self, context: EditContext) -> list[EditContext]:
        """One context per random key, otherwise as given."""
        index = context.class_index
        keys = draw_keys(self.inputs.fit_acts, self._members(index), self.settings.n_keys, self.rng("keys", index))
        return [dataclasses.replace(context, key=key) for key in keys]

    def with_other_seeds(self, context: EditContext) -> list[EditContext]:
        """One context per other seed's autoencoder, with what that one says of the class."""
        return [_seen_by(seed, context) for seed in self.inputs.other_seeds]

    def n_choices(self, index: int) -> tuple[int, int]:
        """(keys, seeds) to draw from in a class, the audited ones among them.

        Whatever is compared: not every choice need give every method something to act on.
        """
        return 1 + min(self.settings.n_keys, len(self._members(index))), 1 + len(self.inputs.other_seeds)

    def intervene(self, method: str, context: EditContext) -> Intervention | None:
        """The method's edit of the class; its random stream is its own, whatever else is compared."""
        rng = self.rng(method, context.class_index)
        return METHODS[method].build(dataclasses.replace(context, rng=rng))

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
