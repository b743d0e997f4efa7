"""The folder an audit leaves behind: written beside its place and moved there, all or nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from salve_audit.activations.lock import temporary_folder
from salve_audit.activations.room import FULL
from salve_audit.errors import OutputError
from salve_audit.results.stale import STALE_FILE

TEMPORARY = ".salve-new-"  # folders of files being written; those of killed processes are removed by the next one

OWN_FILES = (
    "audit.json",
    "report.html",
    "report.pdf",
    "samples.parquet",
    "sae.safetensors",
    "concepts.safetensors",
    "activations.safetensors",
    STALE_FILE,
)


def check_writable(out: Path) -> None:
    """Find out before the work starts whether results can be written.

    Raises:
        OutputError: `out` is a file, or its folder cannot be made or written.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(str(out), "is a file, not a folder")
    parent = out if out.is_dir() else _existing_parent(out)
    if not parent.is_dir():
        raise OutputError(str(out), f"{parent} is not a folder")
    try:
        with temporary_folder(parent, TEMPORARY):
            pass
    except OSError as error:
        raise OutputError(str(out), f"cannot be written ({error.strerror})") from error


@contextlib.contextmanager
def publishing(out: Path, replaces: tuple[str, ...] = OWN_FILES) -> Iterator[Path]:
    """A temporary folder whose files take the place of those in `out` when the block ends without an error.

    A new `out` appears by a single rename. In an existing one each file is replaced by a rename, results of an
    earlier audit that this one does not write (`replaces`) are removed, and files of others are left alone.

    Raises:
        OutputError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    try:
        with temporary_folder(out if out.is_dir() else _existing_parent(out), TEMPORARY) as stage:
            yield stage
            _publish(stage, out, replaces)
    except OSError as error:
        hint = "make room, and run it again" if error.errno in FULL else None
        raise OutputError(str(out), f"cannot be written ({error.strerror or error})", hint=hint) from error


def _publish(stage: Path, out: Path, replaces: tuple[str, ...]) -> None:
    stage.chmod(0o755)
    for file in stage.iterdir():
        with file.open("rb") as handle:  # a full disk may show only now
            os.fsync(handle.fileno())
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        stage.rename(out)
        return
    written = {file.name for file in stage.iterdir()}
    for name in sorted(written):
        (stage / name).replace(out / name)
    for name in replaces:
        if name not in written:
            (out / name).unlink(missing_ok=True)


def _existing_parent(out: Path) -> Path:
    for parent in [out.absolute(), *out.absolute().parents]:
        if parent != out.absolute() and parent.exists():
            return parent
    return Path.cwd()
