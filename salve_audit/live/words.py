"""Errors in the words of the library: an option is a keyword argument here, not a flag."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from salve_audit.errors import SalveError

FLAG = re.compile(r"--([a-z][a-z-]*[a-z])(?: ([A-Z][A-Z|:.]*\b|cpu\b|off\b|\d+\b))?")


@contextmanager
def library_words() -> Iterator[None]:
    """Rewrites flags in errors that pass: ``--head MODULE`` is ``head=MODULE``."""
    try:
        yield
    except SalveError as error:
        error.what, error.why = to_keywords(error.what), to_keywords(error.why)
        error.hint = None if error.hint is None else to_keywords(error.hint)
        error.args = (f"{error.what}: {error.why}" if error.why else error.what,)
        raise


def to_keywords(text: str) -> str:
    """The text with ``--flag VALUE`` as ``flag=VALUE``."""
    return FLAG.sub(lambda found: found[1].replace("-", "_") + (f"={found[2]}" if found[2] else ""), text)
