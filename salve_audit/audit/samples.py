"""samples.parquet: one row per audit sample, so that every class summary can be recomputed."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from salve_audit.activations.store import ActivationSplit
from salve_audit.evidence.stage import EvidenceOutcome
from salve_audit.reliance.by_class import SampleThresholds

GROUP_ROWS = 2**16  # rows that are made, compressed and forgotten at a time
TEXTS = ("path", "label", "predicted", "status", "flips_to", "removed")
THRESHOLDS = ("analytical", "numerical", "flip")


@dataclasses.dataclass(frozen=True)
class ImageRemovals:
    """What was removed from each image, and whether its class was lost.

    Attributes:
        names: (k,) what each class depends on most: a concept by its number, or a global factor; None: nothing, or
            not examined.
        lost: (n,) 1: correct, and misclassified without it; 0: not; between: the share of several draws; nan: it was
            not removed from this image.
    """

    names: tuple[str | None, ...]
    lost: np.ndarray

    def rows(self, rows: slice) -> ImageRemovals:
        """Those of some images."""
        return ImageRemovals(self.names, self.lost[rows])


def describe_removals(outcome: EvidenceOutcome, n: int, n_classes: int) -> ImageRemovals:
    """The removals of an audit's n images."""
    names: list[str | None] = [None] * n_classes
    for part in outcome.classes:
        index = None if part.image_reliance is None else part.image_reliance.concept
        if index is not None:
            names[part.index] = outcome.concepts[index].factor or f"concept {index}"
    return ImageRemovals(tuple(names), np.full(n, np.nan) if outcome.lost is None else outcome.lost.of_audit(n))


def samples_table(
    split: ActivationSplit, thresholds: SampleThresholds, classes: tuple[str, ...], removals: ImageRemovals
) -> pd.DataFrame:
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
    removed = np.array([*removals.names, None], dtype=object)
    columns["removed"] = removed[np.where(np.isnan(removals.lost), len(classes), split.labels)]
    columns["lost"] = removals.lost
    return pd.DataFrame(columns)


def _schema() -> pa.Schema:
    """The same for every group of rows, also one in which nothing flips."""
    numbers = ("margin", *(f"{kind}_{name}" for name in THRESHOLDS for kind in ("alpha", "alpha_hat")), "lost")
    kinds = {name: pa.string() for name in TEXTS} | dict.fromkeys(numbers, pa.float64()) | {"correct": pa.bool_()}
    order = ("path", "label", "predicted", "correct", "margin", "status", "flips_to", *numbers[1:-1], "removed", "lost")
    return pa.schema([(name, kinds[name]) for name in order])


def samples_bytes(
    split: ActivationSplit, thresholds: SampleThresholds, classes: tuple[str, ...], removals: ImageRemovals
) -> bytes:
    """The content of samples.parquet; the same table gives the same bytes."""
    stream, n = io.BytesIO(), len(split.labels)
    first = _to_arrow(split, thresholds, classes, removals, slice(0, GROUP_ROWS))
    with pq.ParquetWriter(stream, first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for start in range(GROUP_ROWS, n, GROUP_ROWS):
            writer.write_table(_to_arrow(split, thresholds, classes, removals, slice(start, start + GROUP_ROWS)))
    return stream.getvalue()


def _to_arrow(
    split: ActivationSplit, thresholds: SampleThresholds, classes: tuple[str, ...], removals: ImageRemovals, rows: slice
) -> pa.Table:
    part = ActivationSplit(split.acts[rows], split.labels[rows], split.paths[rows])
    own = {field.name: getattr(thresholds, field.name)[rows] for field in dataclasses.fields(thresholds)}
    table = samples_table(part, SampleThresholds(**own), classes, removals.rows(rows))
    return pa.Table.from_pandas(table, schema=_schema(), preserve_index=False)
