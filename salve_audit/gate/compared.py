"""An audit beside its baseline, and the images that both have."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from salve_audit.gate.review import Review
from salve_audit.gate.samples import Samples
from salve_audit.results import AuditResult

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Compared:
    """An audit beside its baseline.

    Attributes:
        new, old: both audits.
        new_samples, old_samples: their images; None: samples.parquet is not there.
        name: of the baseline, for messages.
        review: what people have said of dependences; those that are accepted are no loss.
    """

    new: AuditResult
    old: AuditResult
    new_samples: Samples | None
    old_samples: Samples | None
    name: str
    review: Review | None = None

    @functools.cached_property
    def pairs(self) -> Pairs | None:
        """The images of both audits; None: they are not at hand."""
        if self.new_samples is None or self.old_samples is None:
            return None
        return Pairs(self.old_samples, self.new_samples, _pair(self.old_samples, self.new_samples))

    @functools.cached_property
    def is_same_network(self) -> bool:
        """True where both are of one network, one autoencoder and the same data: what is equal then is so for certain.

        Else it is equal on these images.
        """
        old, new = self.old.provenance, self.new.provenance
        parts = ("model_sha256", "data_sha256", "sae_sha256")
        return all(getattr(old, part) == getattr(new, part) for part in parts)


@dataclass(frozen=True)
class Pairs:
    """The images that both audits have.

    Attributes:
        old, new: all images of each.
        rows: (pairs, 2) by class: positions in the baseline, and in the audit.
    """

    old: Samples
    new: Samples
    rows: Mapping[str, np.ndarray]

    def count(self, class_name: str) -> int:
        """Images of a class."""
        return len(self.rows.get(class_name, ()))

    def correct(self, class_name: str) -> tuple[np.ndarray, np.ndarray]:
        """Whether each image is correct, before and now."""
        old, new = self.rows[class_name].T
        return self.old.correct[old], self.new.correct[new]

    def flips(self, class_name: str) -> tuple[np.ndarray, np.ndarray]:
        """Thresholds before and now, of all images of a class."""
        old, new = self.rows[class_name].T
        return self.old.flips[old], self.new.flips[new]

    @property
    def has_lost(self) -> bool:
        """True where both audits say of single images what the strongest removal did."""
        return self.old.lost is not None and self.new.lost is not None

    def lost(self, class_name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """What the strongest removal did to each image that both examined; None: one of them does not say it."""
        if self.old.lost is None or self.new.lost is None or class_name not in self.rows:
            return None
        old_rows, new_rows = self.rows[class_name].T
        old, new = self.old.lost[old_rows], self.new.lost[new_rows]
        both = (old == old) & (new == new)  # not nan
        return old[both], new[both]


def _pair(old: Samples, new: Samples) -> dict[str, np.ndarray]:
    import numpy as np

    rows = {path: i for i, path in enumerate(old.paths)}
    pairs: dict[str, list[tuple[int, int]]] = {}
    for i, (path, label) in enumerate(zip(new.paths, new.labels, strict=True)):
        if path in rows and old.labels[rows[path]] == label:
            pairs.setdefault(label, []).append((rows[path], i))
    return {label: np.array(own) for label, own in pairs.items()}
