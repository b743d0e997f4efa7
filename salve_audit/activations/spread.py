"""A selection of rows, spread evenly over all."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


def spread_rows(rows: Int[np.ndarray, " own"], n: int) -> Int[np.ndarray, " some"]:
    """At most `n` of the rows, the first and the last among them."""
    return rows if len(rows) <= n else rows[np.linspace(0, len(rows) - 1, n).astype(np.intp)]
