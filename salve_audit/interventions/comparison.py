"""Inputs and result of the comparison of interventions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from salve_audit.errors import UsageError
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.interventions.registry import METHODS
from salve_audit.results import InterventionResult, MethodSpread, MethodSummary


@dataclass(frozen=True)
class ComparisonSettings:
    """Methods, targets and numbers of draws of the comparison.

    Attributes:
        methods: names out of the registry.
        targets: accuracies that every class is brought down to.
        n_keys: random keys for the spread of the methods that depend on one.
        n_bootstrap: draws behind every interval.
        seed: of keys, nulls and bootstrap.

    Raises:
        UsageError: an unknown method, a target outside 0..1, or a count below 1.
    """

    methods: tuple[str, ...] = field(default_factory=lambda: tuple(METHODS))
    targets: tuple[float, ...] = (0.5, 0.05)
    n_keys: int = 10
    n_bootstrap: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in METHODS:
                raise UsageError("interventions", f"{method!r} is not one of {', '.join(METHODS)}")
        for target in self.targets:
            if not 0 <= target <= 1:
                raise UsageError("targets", f"{target} is not between 0 and 1")
        for key in ("n_keys", "n_bootstrap"):
            if getattr(self, key) < 1:
                raise UsageError(key, f"{getattr(self, key)} is below 1")


@dataclass(frozen=True)
class SeedFeatures:
    """The classes' features in an autoencoder that differs from the audited one by its seed alone.

    Attributes:
        features: (k,) its own dominant latent of every class.
        dictionary: (m, d).
        mean_codes: (k, m), on the fit split.
        alive: (m,) which latents fire on the fit split.
    """

    features: Int[np.ndarray, " k"]
    dictionary: Float[np.ndarray, "m d"]
    mean_codes: Float[np.ndarray, "k m"]
    alive: Bool[np.ndarray, " m"]


@dataclass(frozen=True)
class ComparisonInputs:
    """The head, the autoencoder and the samples that edits are compared on.

    Attributes:
        head: the final linear layer.
        class_names: k names in output order.
        features: (k,) dominant latent of every class.
        dictionary: (m, d).
        mean_codes: (k, m), on the fit split.
        alive: (m,) which latents fire on the fit split.
        fit_acts, fit_labels: (n_fit, d) and (n_fit,): what the methods may learn from.
        audit_acts, audit_labels: (n, d) and (n,): what they are measured on.
        other_seeds: autoencoders of other seeds, for the spread of the methods that act on a latent.
        fragility: (k,) the smaller, the sooner a class is compared where not all can be; nan: last. None: by the median
            lead of the class over its best rival.
    """

    head: LinearHead
    class_names: tuple[str, ...]
    features: Int[np.ndarray, " k"]
    dictionary: Float[np.ndarray, "m d"]
    mean_codes: Float[np.ndarray, "k m"]
    alive: Bool[np.ndarray, " m"]
    fit_acts: Float[np.ndarray, "n_fit d"]
    fit_labels: Int[np.ndarray, " n_fit"]
    audit_acts: Float[np.ndarray, "n d"]
    audit_labels: Int[np.ndarray, " n"]
    other_seeds: tuple[SeedFeatures, ...] = ()
    fragility: Float[np.ndarray, " k"] | None = None


@dataclass(frozen=True)
class Comparison:
    """Results of the comparison of interventions.

    Attributes:
        results: by class, then method, then target.
        spreads: of the methods that depend on a key or on the autoencoder's seed.
        summary: by method, then target, over all classes on which every method was compared.
        notes: what was left out, since it would have cost too much or had nothing to act on, in words.
    """

    results: tuple[InterventionResult, ...]
    spreads: tuple[MethodSpread, ...]
    summary: tuple[MethodSummary, ...] = ()
    notes: tuple[str, ...] = ()
