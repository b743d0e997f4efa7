"""samples.parquet as CSV, for the downloads of a report."""

from __future__ import annotations

import io
from pathlib import Path

CSV_UP_TO = 20_000  # rows: longer tables stay in samples.parquet


def samples_as_csv(parquet: bytes) -> bytes | None:
    """samples.parquet for the downloads of a report; None where it is too long for one, or cannot be read."""
    try:
        import pandas as pd

        table = pd.read_parquet(io.BytesIO(parquet), engine="pyarrow")
    except (ImportError, OSError, ValueError):  # a machine that only renders may lack pandas
        return None
    if len(table) > CSV_UP_TO:
        return None
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode("utf-8", "replace")


def read_samples_csv(folder: Path) -> bytes | None:
    """The same of a saved audit; None: there is no samples.parquet that can be read."""
    try:
        return samples_as_csv((folder / "samples.parquet").read_bytes())
    except OSError:
        return None
