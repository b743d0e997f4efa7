"""samples.parquet: one row per audit sample, so that every class summary can be recomputed."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from salve_audit.activations.store import ActivationSplit
from salve_audit.reliance.by_class import SampleThresholds

GROUP_ROWS = 2**16  # rows that are made, compressed and forgotten at a time
TEXTS = ("path", "label", "predicted", "status", "flips_to")
THRESHOLDS = ("analytical", "numerical", "flip")


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
    for name in THRESHOLDS:
        value = getattr(thresholds, name)
        columns[f"alpha_{name}"] = value
        columns[f"alpha_hat_{name}"] = value * thresholds.coupling_max
    return pd.DataFrame(columns)


def _schema() -> pa.Schema:
    """The same for every group of rows, also one in which nothing flips."""
    numbers = ("margin", *(f"{kind}_{name}" for name in THRESHOLDS for kind in ("alpha", "alpha_hat")))
    kinds = {name: pa.string() for name in TEXTS} | dict.fromkeys(numbers, pa.float64()) | {"correct": pa.bool_()}
    order = ("path", "label", "predicted", "correct", "margin", "status", "flips_to", *numbers[1:])
    return pa.schema([(name, kinds[name]) for name in order])


def samples_bytes(split: ActivationSplit, thresholds: SampleThresholds, classes: tuple[str, ...]) -> bytes:
    """The content of samples.parquet; the same table gives the same bytes."""
    stream, n = io.BytesIO(), len(split.labels)
    first = _to_arrow(split, thresholds, classes, slice(0, GROUP_ROWS))
    with pq.ParquetWriter(stream, first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for start in range(GROUP_ROWS, n, GROUP_ROWS):
            writer.write_table(_to_arrow(split, thresholds, classes, slice(start, start + GROUP_ROWS)))
    return stream.getvalue()


def _to_arrow(split: ActivationSplit, thresholds: SampleThresholds, classes: tuple[str, ...], rows: slice) -> pa.Table:
    part = ActivationSplit(split.acts[rows], split.labels[rows], split.paths[rows])
    own = {field.name: getattr(thresholds, field.name)[rows] for field in dataclasses.fields(thresholds)}
    table = samples_table(part, SampleThresholds(**own), classes)
    return pa.Table.from_pandas(table, schema=_schema(), preserve_index=False)
