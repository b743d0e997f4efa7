"""Statistics of every class; kept beside an audit, so that factors can be removed from a single image later on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.evidence.factors.record import Shift, Statistics

PREFIX, COUNTS = "statistics 2.", "statistics 2 counts"  # another number where statistics change: others are not read


@dataclass(frozen=True)
class ClassStatistics:
    """Sums of a factor's statistics by class.

    Attributes:
        total: (k, s).
        counts: (k,) images.
    """

    total: Float[Tensor, "k s"]
    counts: Float[Tensor, " k"]

    def own(self, labels: Int[Tensor, " b"]) -> Statistics:
        """Mean of each label's class."""
        return self.total[labels] / self.counts[labels].clamp(min=1)[:, None]

    def others(self, labels: Int[Tensor, " b"]) -> Statistics:
        """Mean of all other classes, each counting alike; of the class itself where there is no other."""
        means = self.total / self.counts.clamp(min=1)[:, None]
        rest = (self.counts > 0).sum() - (self.counts[labels] > 0).int()
        mean = (means.sum(0) - means[labels]) / rest.clamp(min=1)[:, None]
        return torch.where(rest[:, None] > 0, mean, self.own(labels))

    def away(self, labels: Int[Tensor, " b"]) -> Shift:
        """Shift from each label's class to the others."""
        return Shift(self.own(labels), self.others(labels))


@dataclass(frozen=True)
class ClassMeans:
    """What single images are compared with.

    Attributes:
        totals: by name of the factor, (k, s) sums of its statistics over each class's examined images.
        counts: (k,) images.
    """

    totals: Mapping[str, Float[np.ndarray, "k s"]] = field(default_factory=lambda: MappingProxyType({}))
    counts: Float[np.ndarray, " k"] = field(default_factory=lambda: np.zeros(0, np.float32))

    def of(self, name: str) -> ClassStatistics | None:
        """The statistics of one factor; None: the audit did not keep them."""
        if name not in self.totals:
            return None
        return ClassStatistics(torch.from_numpy(self.totals[name]), torch.from_numpy(self.counts))

    def arrays(self) -> dict[str, np.ndarray]:
        """Named arrays, as they lie in a file; empty where nothing was measured."""
        named = {f"{PREFIX}{name}": np.ascontiguousarray(total) for name, total in self.totals.items()}
        return {**named, COUNTS: np.ascontiguousarray(self.counts)} if named else {}


def gather_class_means(statistics: Mapping[str, ClassStatistics], n_classes: int) -> ClassMeans:
    """The statistics of an audit, with rows for all of the network's classes."""
    if not statistics:
        return ClassMeans()

    def widen(values: torch.Tensor) -> np.ndarray:
        wide = np.zeros((n_classes, *values.shape[1:]), np.float32)
        wide[: len(values)] = values.numpy()
        return wide

    totals = {name: widen(each.total) for name, each in statistics.items()}
    return ClassMeans(totals, widen(next(iter(statistics.values())).counts))


def read_class_means(arrays: Mapping[str, np.ndarray], n_classes: int) -> ClassMeans:
    """What `ClassMeans.arrays` named; nothing where an earlier version wrote the file, or where shapes do not fit."""
    counts = arrays.get(COUNTS)
    if counts is None or counts.shape != (n_classes,):
        return ClassMeans()
    totals = {
        name.removeprefix(PREFIX): values.astype(np.float32)
        for name, values in arrays.items()
        if name.startswith(PREFIX) and values.ndim == 2 and len(values) == n_classes
    }
    return ClassMeans(totals, counts.astype(np.float32))
