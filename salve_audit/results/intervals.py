"""The interval of a share in closed form, for readers of audits that load no scipy."""

from __future__ import annotations

import math

Z95 = 1.959963984540054  # quantile of the normal distribution


def wilson_interval(share: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson interval of a share of n images, n > 0; of 95 % unless `z` says otherwise."""
    spread = z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
