"""Which networks measures are developed on, and which stay untouched: reads `split.toml`."""

from __future__ import annotations

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SPLIT = Path(__file__).with_name("split.toml")


def list_names(wanted: list[str]) -> list[str]:
    """Names of networks; "development" and "untouched" stand for all of theirs."""
    with SPLIT.open("rb") as handle:
        split = tomllib.load(handle)
    roles = {
        role: [f"{unit}/{seed}" for unit, seeds in units.items() for seed in seeds] for role, units in split.items()
    }
    names = [name for word in wanted for name in roles.get(word, [word])]
    unknown = [name for name in names if name not in {known for names in roles.values() for known in names}]
    if unknown:
        raise SystemExit(f"{unknown[0]} is not in {SPLIT.name}")
    return names
