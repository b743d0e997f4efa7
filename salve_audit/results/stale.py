"""The file that marks results as those of an earlier run: an audit that started after them has not finished."""

from __future__ import annotations

from pathlib import Path

STALE_FILE = "stale.txt"


def mark_stale(folder: Path, why: str) -> None:
    """Mark the results in `folder`, if there are any; a finished audit removes the mark.

    A folder that cannot be written keeps its results unmarked: the audit itself says so.
    """
    if (folder / "audit.json").is_file():
        try:
            (folder / STALE_FILE).write_text(why + "\n", encoding="utf-8")
        except OSError:
            return


def read_stale(folder: Path) -> str | None:
    """Why the results in `folder` are stale; None: they are not."""
    file = folder / STALE_FILE
    try:
        return (
            file.read_text(encoding="utf-8", errors="replace").strip() or "an audit that started later did not finish"
        )
    except FileNotFoundError:
        return None
    except OSError:
        return f"{file} cannot be read"
