"""samples.parquet: one row per audit sample, so that every class summary can be recomputed."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd

from salve_audit.activations.store import ActivationSplit
from salve_audit.reliance.by_class import SampleThresholds


def samples_table(split: ActivationSplit, thresholds: SampleThresholds, classes: tuple[str, ...]) -> pd.DataFrame:
    """The table, in the order of the audit split; NaN: not applicable, inf: never."""
    names = np.array([*classes, None], dtype=object)
    predicted = names[thresholds.predicted]
    columns: dict[str, object] = {
        "path": list(split.paths),
        "label": names[split.labels],
        "predicted": predicted,
        "correct": (thresholds.predicted == split.labels) & (thresholds.margin > 0),
        "margin": thresholds.margin,
        "status": thresholds.status.astype(object),
        "flips_to": names[thresholds.flips_to],
    }
    for name in ("analytical", "numerical", "flip"):
        value = getattr(thresholds, name)
        columns[f"alpha_{name}"] = value
        columns[f"alpha_hat_{name}"] = value * thresholds.coupling_max
    return pd.DataFrame(columns)


def samples_bytes(split: ActivationSplit, thresholds: SampleThresholds, classes: tuple[str, ...]) -> bytes:
    """The content of samples.parquet; the same table gives the same bytes."""
    stream = io.BytesIO()
    samples_table(split, thresholds, classes).to_parquet(stream, engine="pyarrow", index=False, compression="zstd")
    return stream.getvalue()
