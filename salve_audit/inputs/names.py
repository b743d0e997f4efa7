"""Names out of archives and manifests: data that may be hostile, shown shortened and escaped, never followed out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath, PureWindowsPath

LONGEST = 80  # characters shown
MAX_NAME, MAX_DEPTH = 32_768, 128


def show_name(name: str) -> str:
    """`name` quoted, with control and direction characters escaped, shortened in the middle."""
    text = repr(name)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}…{text[-LONGEST // 2 + 1 :]}"


def words_of(names: str | Iterable[str]) -> set[str]:
    """The words of a name, or of several, in lower case: ``data_cfg``, ``dataCfg`` and ``DATA.cfg`` have the same."""
    text = names if isinstance(names, str) else " ".join(names)
    return set(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text).lower()))


def check_relative(name: str) -> str:
    """`name` without ``./``, as a relative posix path.

    Raises:
        ValueError: empty, absolute, with ``..``, a URL, not UTF-8, with a zero byte, or far too long; says which.
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None
    if len(name) > MAX_NAME or name.count("/") > MAX_DEPTH:
        raise ValueError(f"is longer than {MAX_NAME:,} characters or deeper than {MAX_DEPTH} folders")
    path = PurePosixPath(name)
    if not path.parts:
        raise ValueError("is empty")
    if "\0" in name:
        raise ValueError("has a zero byte")
    if "://" in name:
        raise ValueError("is a URL, and nothing is downloaded")
    windows = PureWindowsPath(name)
    if path.is_absolute() or windows.drive or windows.root:
        raise ValueError("is an absolute path")
    if ".." in path.parts or ".." in windows.parts:
        raise ValueError("leads out of its folder")
    return path.as_posix()
