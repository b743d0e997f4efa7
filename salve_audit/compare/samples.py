"""Per-image results of a saved audit, from the samples.parquet beside its audit.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = ("path", "label", "correct", "alpha_hat_flip")


@dataclass(frozen=True)
class ClassSamples:
    """The images of one class, in the order of their paths.

    Attributes:
        correct: (n,) bool.
        flips: (n,) α̂ at which the prediction flips; inf: never, nan: not correct.
    """

    correct: np.ndarray
    flips: np.ndarray


@dataclass(frozen=True)
class Samples:
    """All images of an audit, sorted by path; `keys` are (path, label)."""

    keys: tuple[tuple[str, str], ...]
    table: pd.DataFrame

    def of_class(self, name: str) -> ClassSamples:
        """The images of one class."""
        own = self.table[self.table["label"] == name]
        return ClassSamples(own["correct"].to_numpy(bool), own["alpha_hat_flip"].to_numpy(np.float64))


def read_samples(audit: Path) -> Samples | None:
    """The images of the audit at a path; None: there is no samples.parquet that can be read."""
    folder = audit if audit.is_dir() else audit.parent
    try:
        table = pd.read_parquet(folder / "samples.parquet", engine="pyarrow", columns=list(COLUMNS))
    except (OSError, ValueError, KeyError):
        return None
    table = table.sort_values(["path", "label"], kind="stable").reset_index(drop=True)
    return Samples(tuple(zip(table["path"].astype(str), table["label"].astype(str), strict=True)), table)
