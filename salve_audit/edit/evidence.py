"""Evidence on the audited model: the saved audit, its autoencoder and, where they are at hand, its activations."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

from salve_audit.activations.store import ActivationSplit
from salve_audit.audit.saved import SavedAudit
from salve_audit.errors import ResultError, UsageError
from salve_audit.inputs.labels.label import mark_present
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.interventions.context import FitStatistics, compute_fit_statistics
from salve_audit.reliance.features import FeatureUse, describe_use

ACTIVATIONS = "activations.safetensors"
Splits: TypeAlias = tuple[ActivationSplit, ActivationSplit]  # to fit, to audit


def read_kept_activations(audit: SavedAudit, head: LinearHead) -> Splits | None:
    """Both splits as ``--keep-activations`` left them in the audit's folder; None where it did not.

    Raises:
        ResultError: they are damaged, or of another model or audit.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    file = audit.folder / ACTIVATIONS
    if not file.is_file():
        return None
    try:
        arrays = load_file(file)
        parts = [
            ActivationSplit(arrays[f"{name}_acts"], arrays[f"{name}_labels"].astype(np.int64), ())
            for name in ("fit", "audit")
        ]
        same_head = np.array_equal(arrays["head_weight"], head.weight) and np.array_equal(
            arrays["head_bias"], head.bias
        )
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ResultError(str(file), f"cannot be read ({error})") from error
    sizes = (audit.result.data.n_fit, audit.result.data.n_audit)
    fits = all(
        part.acts.shape == (n, head.d) and part.labels.shape == (n,) for part, n in zip(parts, sizes, strict=True)
    )
    if not same_head or not fits:
        raise ResultError(str(file), "is of another model or another audit")
    return parts[0], parts[1]


@dataclass(frozen=True)
class EditEvidence:
    """All that the methods may need; activations are asked for only where a method cannot do without.

    Attributes:
        audit: the saved audit.
        head: the folded head, as it was audited.
        splits: activations to fit and to audit, or None.
    """

    audit: SavedAudit
    head: LinearHead
    splits: Splits | None

    def fit_split(self, why: str) -> ActivationSplit:
        """Activations to learn from.

        Raises:
            UsageError: there are none; `why` says what needs them.
        """
        return self._split(0, why)

    def audit_split(self, why: str) -> ActivationSplit:
        """Activations to measure on; raises as `fit_split`."""
        return self._split(1, why)

    def _split(self, which: int, why: str) -> ActivationSplit:
        if self.splits is None:
            hint = "name the audit's images with --data DIR, or audit with --keep-activations"
            what = f"needs the activations of the audit, and {self.audit.folder} has no {ACTIVATIONS}"
            raise UsageError(why, what, hint=hint)
        return self.splits[which]

    @cached_property
    def statistics(self) -> FitStatistics:
        """Moments of the activations to learn from."""
        fit = self.fit_split("method")
        return compute_fit_statistics(np.asarray(fit.acts), fit.labels, self.head.n_classes)

    @cached_property
    def use(self) -> FeatureUse:
        """The use of all latents by the classes."""
        fit = self.fit_split("feature")
        return describe_use(
            self.audit.sae.encode(np.asarray(fit.acts)), fit.labels, self.audit.sae.dictionary, self.head
        )

    def mean_codes(self, class_index: int | None, feature: int | None) -> Float[np.ndarray, "k m"]:
        """(k, m) mean codes: those in audit.json, which has the important latents; all where another one counts."""
        known = np.full((self.head.n_classes, self.audit.sae.n_latents), np.nan)
        for info in self.audit.result.features:
            known[:, info.index] = [np.nan if code is None else code for code in info.mean_code]
        if class_index is None or feature is None or np.isfinite(known[class_index, feature]):
            return known
        return self.use.mean_codes

    @property
    def dominant(self) -> Int[np.ndarray, " k"]:
        """(k,) dominant latents, 0 for outputs without images."""
        dominant = np.zeros(self.head.n_classes, dtype=np.int64)
        for class_info in self.audit.result.classes:
            dominant[class_info.index] = class_info.dominant_feature
        return dominant

    @property
    def alive(self) -> Bool[np.ndarray, " m"]:
        """(m,) latents that can fire."""
        return self.audit.sae.alive


def narrow(split: ActivationSplit, label: int) -> ActivationSplit:
    """The split as a problem of two classes: label absent and present."""
    return dataclasses.replace(split, labels=mark_present(split.labels, label))
