"""Lists of names in a sentence. This module is light, for the policy is read by the configuration."""

from __future__ import annotations

from collections.abc import Sequence


def name_some(names: Sequence[str], most: int, between: str = ", ") -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return between.join(names[:most]) + more
