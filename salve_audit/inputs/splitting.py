"""The samples of one class, divided between the two parts of a data set and drawn under a limit."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

FIT_SHARE = 0.6
Rows = Int[np.ndarray, " rows"]


def split_class(n: int, seed: int, label: int) -> tuple[Rows, Rows]:
    """Rows 0..n-1 of a class to fit and to audit, 60/40 by `seed`, ascending; both parts get one of n >= 2."""
    n_fit = min(max(round(FIT_SHARE * n), 1), n - 1)
    order = np.random.default_rng((seed, 0, label)).permutation(n)
    return np.sort(order[:n_fit]), np.sort(order[n_fit:])


def draw_from_class(n: int, limit: int, seed: int, part: int, label: int) -> Rows:
    """At most `limit` rows of 0..n-1, drawn without replacement by `seed`, ascending; `part` 1 is fit, 2 is audit."""
    return np.sort(np.random.default_rng((seed, part, label)).permutation(n)[:limit])
