"""The user's folder for caches, also for a user without a home."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

NAME = "salve-audit"


def user_cache_dir() -> Path:
    """``$XDG_CACHE_HOME/salve-audit``, else ``~/.cache/salve-audit``, else a folder among the temporary files.

    A user without a home (neither HOME nor an entry in the list of users, as in containers) gets the last one, and
    only one that nobody else owns.
    """
    given = os.environ.get("XDG_CACHE_HOME")
    if given:
        return Path(given) / NAME
    try:
        return Path.home() / ".cache" / NAME
    except RuntimeError:
        return _temporary_dir()


def _temporary_dir() -> Path:
    uid = os.getuid() if hasattr(os, "getuid") else 0
    place = Path(tempfile.gettempdir()) / f"{NAME}-{uid}"
    try:
        place.mkdir(mode=0o700)
    except FileExistsError:
        if place.is_symlink() or place.stat().st_uid != uid:
            return Path(tempfile.mkdtemp(prefix=f"{NAME}-"))
    except OSError:
        pass  # who wants to write there says so
    return place
