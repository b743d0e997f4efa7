"""Compares activations, and lists what a cache was left with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from salve_audit.activations.store import Activations


def same(first: Activations, other: Activations) -> bool:
    return np.array_equal(first.fit.acts, other.fit.acts) and np.array_equal(first.audit.acts, other.audit.acts)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir()) if folder.exists() else []
