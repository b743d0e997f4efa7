"""Foreign errors in one line, for messages that name the cause."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 200  # characters of a foreign message; some libraries print pages


def summarise_error(error: BaseException) -> str:
    """``Type: first line`` of `error`, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else ""
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def nearest_names(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """The up to `n` most similar of the `known` names, best first."""
    return difflib.get_close_matches(name, list(known), n=n, cutoff=0.5)
