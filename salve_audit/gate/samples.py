"""The images of an audit as its samples.parquet lists them, of which losses against a baseline are made."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from salve_audit.errors import ResultError
from salve_audit.gate.audit_file import AuditFile
from salve_audit.results.view import companions_of

if TYPE_CHECKING:
    import numpy as np

SAMPLES = "samples.parquet"
FLIP, LOST = "alpha_hat_flip", "lost"
COLUMNS = ("path", "label", "correct", FLIP)


@dataclass(frozen=True)
class Samples:
    """The audit images of one audit.

    Attributes:
        paths: (n,)
        labels: (n,) names of classes.
        correct: (n,)
        flips: (n,) thresholds in α̂; inf: never, nan: not applicable.
        lost: (n,) 1: correct, and misclassified without what the class depends on most; 0: not; nan: not examined.
            None: an earlier version wrote the file.
    """

    paths: Sequence[str]
    labels: Sequence[str]
    correct: np.ndarray
    flips: np.ndarray
    lost: np.ndarray | None = None


def read_samples(folder: Path) -> Samples | None:
    """The images of an audit from its samples.parquet; None: there is no such file.

    Raises:
        ResultError: the file is damaged.
    """
    file = folder / SAMPLES
    return parse_samples(file, str(file)) if file.is_file() else None


def samples_of(audit: AuditFile) -> Samples | None:
    """The images of an audit, saved or in memory; None: they are not at hand.

    Raises:
        ResultError: the file is damaged.
    """
    if audit.is_on_disk:
        return read_samples(audit.folder)
    companions = companions_of(audit.result)
    return None if companions is None else parse_samples(io.BytesIO(companions.read(SAMPLES)), SAMPLES)


def parse_samples(source: Path | IO[bytes], name: str) -> Samples:
    """The images in a samples.parquet; `name` is for messages.

    Raises:
        ResultError: the file is damaged.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(source)
        extra = [LOST] if LOST in file.schema_arrow.names else []
        table = file.read(columns=[*COLUMNS, *extra])
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise ResultError(name, f"cannot be read ({str(error).splitlines()[0]})") from error
    paths, labels, correct, *numbers = (table.column(name).to_pylist() for name in (*COLUMNS[:3], FLIP, *extra))
    values = (np.array(each, dtype=np.float64) for each in numbers)  # Arrow's to_numpy would load all of pandas
    return Samples(paths, labels, np.array(correct, dtype=bool), *values)
