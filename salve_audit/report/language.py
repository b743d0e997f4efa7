"""The language of a report: English texts are the keys of a catalogue, templates/texts/LANGUAGE.json."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import cache

from salve_audit.report.places import templates_dir

LANGUAGES = ("en", "de")
_catalogue: ContextVar[Mapping[str, str] | None] = ContextVar("catalogue", default=None)


@contextlib.contextmanager
def speaking(language: str) -> Iterator[None]:
    """Texts are said in `language` inside the block; English where the catalogue lacks one."""
    token = _catalogue.set(None if language == LANGUAGES[0] else _load(language))
    try:
        yield
    finally:
        _catalogue.reset(token)


def say(text: str, /, **values: object) -> str:
    """`text` in the language of the report, its ``{places}`` filled with `values`."""
    catalogue = _catalogue.get()
    translated = text if catalogue is None else catalogue.get(text, text)
    return translated.format(**values) if values else translated


def plural(n: int, singular: str, many: str | None = None) -> str:
    """``1 class``, ``2 classes``, in the language of the report."""
    return f"{n:,} {say(singular if n == 1 else many or singular + 's')}"


@cache
def _load(language: str) -> Mapping[str, str]:
    texts: dict[str, str] = json.loads((templates_dir() / "texts" / f"{language}.json").read_text(encoding="utf-8"))
    return texts
