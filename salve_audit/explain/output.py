"""The file that an explanation goes to: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from salve_audit.errors import OutputError, UsageError
from salve_audit.outputs import OWN_FILES

FORMATS = ("text", "json", "html", "png")
SUFFIXES = {".txt": "text", ".json": "json", ".html": "html", ".htm": "html", ".png": "png"}


def choose_format(asked: str | None, out: Path | None) -> str:
    """What is asked for, else what the file's name says, else text.

    Raises:
        UsageError: neither says it, or a PNG has no file to go to.
    """
    if asked is None and out is not None:
        asked = SUFFIXES.get(out.suffix.lower())
        if asked is None:
            why = f"{out.name} does not end in {', '.join(SUFFIXES)}"
            raise UsageError("-o", why, hint="or name the format: --format text|json|html|png")
    if asked == "png" and out is None:
        raise UsageError("--format", "png goes to a file", hint="-o FILE.png")
    return asked or "text"


def check_out(out: Path | None, inputs: Sequence[Path]) -> None:
    """Before any work: can a file be written there?

    Raises:
        UsageError: it is one of the inputs, by whatever name, or a file of the audit in one of them.
        OutputError: it is a folder, or lies in none that can be written.
    """
    if out is None:
        return
    if out.is_dir():
        raise OutputError(str(out), "is a folder", hint=f"-o {out / 'explanation.html'}")
    belonging = [file for one in inputs for file in (one, *(one / name for name in OWN_FILES))]
    if out.exists() and any(one.exists() and os.path.samefile(one, out) for one in belonging):
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
