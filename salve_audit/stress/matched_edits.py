"""Every method's edit of every class at the strength that the comparison matched."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from salve_audit.interventions.affine import AffineHead
from salve_audit.interventions.comparison import ComparisonInputs
from salve_audit.interventions.context import EditContext, FitStatistics, compute_fit_statistics, float64_head
from salve_audit.interventions.registry import METHODS
from salve_audit.interventions.streams import open_stream
from salve_audit.interventions.workbench import make_context
from salve_audit.results import InterventionResult


class MatchedEdits:
    """Heads edited as in the comparison, at its lowest target accuracy.

    Attributes:
        head: the original head.
        target: the accuracy that classes are brought down to; None where nothing was compared.
        methods: in the order of the comparison.
    """

    def __init__(self, inputs: ComparisonInputs, results: Sequence[InterventionResult], seed: int) -> None:
        self.inputs, self.seed = inputs, seed
        self.head = float64_head(inputs.head)
        self.target = min((result.target_accuracy for result in results), default=None)
        own = [result for result in results if result.target_accuracy == self.target]
        self.methods = tuple(dict.fromkeys(result.method for result in own))
        self._strengths = {(result.method, result.class_name): result.strength for result in own if result.reached}
        self._context = functools.lru_cache(maxsize=None)(self._make_context)

    def reaches(self, method: str, index: int) -> bool:
        """True if the method brings the class to the target."""
        return (method, self.inputs.class_names[index]) in self._strengths

    def edit(self, method: str, index: int, head: AffineHead | None = None) -> AffineHead:
        """The head after the edit of one class, which the method brings to the target.

        Args:
            method: its name.
            index: the class.
            head: what to edit; None: the original head. The strength stays the one matched on that.
        """
        context = dataclasses.replace(
            self._context(index),
            head=self.head if head is None else head,
            # the stream that the comparison gave this method: the nulls then draw the same
            rng=open_stream(self.seed, method, index),
        )
        intervention = METHODS[method].build(context)
        assert intervention is not None, f"{method} has nothing to act on, but a matched strength"
        return intervention.head(self._strengths[method, self.inputs.class_names[index]])

    @functools.cached_property
    def _fit(self) -> FitStatistics:
        return compute_fit_statistics(self.inputs.fit_acts, self.inputs.fit_labels, self.inputs.head.n_classes)

    def _make_context(self, index: int) -> EditContext:
        return make_context(self.inputs, index, self.head, self._fit, np.random.default_rng(0))
