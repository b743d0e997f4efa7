"""The file that an explanation goes to: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from salve_audit.audit.publish import OWN_FILES
from salve_audit.errors import OutputError, UsageError

FORMATS = ("text", "json", "html", "png")
SUFFIXES = {".txt": "text", ".json": "json", ".html": "html", ".htm": "html", ".png": "png"}


def choose_format(wanted: str | None, out: Path | None) -> str:
    """The wanted format, else the one of the file's suffix, else text.

    Raises:
        UsageError: neither says it, or a PNG has no file to go to.
    """
    if wanted is None and out is not None:
        wanted = SUFFIXES.get(out.suffix.lower())
        if wanted is None:
            why = f"{out.name} does not end in {', '.join(SUFFIXES)}"
            raise UsageError("-o", why, hint=f"or name the format: --format {'|'.join(FORMATS)}")
    if wanted == "png" and out is None:
        raise UsageError("--format", "png goes to a file", hint="-o FILE.png")
    return wanted or "text"


def check_explanation_out(out: Path | None, inputs: Sequence[Path]) -> None:
    """Checks before any work that a file can be written to `out`.

    Raises:
        UsageError: it is one of the inputs, by whatever name, or a file of the audit in one of them.
        OutputError: it is a folder, or lies in none that can be written.
    """
    if out is None:
        return
    if out.is_dir():
        raise OutputError(str(out), "is a folder", hint=f"-o {out / 'explanation.html'}")
    belonging = [file for source in inputs for file in (source, *(source / name for name in OWN_FILES))]
    if out.exists() and any(source.exists() and os.path.samefile(source, out) for source in belonging):
        raise UsageError("-o", f"{out} is one of the inputs, which are never overwritten", hint="name another place")
    if not out.absolute().parent.is_dir():
        raise OutputError(str(out), "its folder does not exist")
    if not os.access(out.absolute().parent, os.W_OK):
        raise OutputError(str(out), "its folder cannot be written")


def write_whole(out: Path, content: bytes) -> None:
    """Writes under another name and renames.

    Raises:
        OutputError: the disk is full or the like; nothing is left behind.
    """
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=".salve-", dir=out.absolute().parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, out)
    except OSError as error:
        raise OutputError(str(out), f"cannot be written ({error.strerror or error})") from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
