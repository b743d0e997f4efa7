"""The folder an audit leaves behind: written beside its place and moved there, all or nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from salve_audit.errors import OutputError
from salve_audit.results.stale import STALE_FILE

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
        with tempfile.TemporaryDirectory(prefix=".salve-", dir=parent):
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
    parent = _existing_parent(out)
    try:
        stage = Path(tempfile.mkdtemp(prefix=".salve-", dir=out if out.is_dir() else parent))
    except OSError as error:
        raise OutputError(str(out), f"cannot be written ({error.strerror})") from error
    try:
        yield stage
        _publish(stage, out, replaces)
    except OSError as error:
        raise OutputError(str(out), f"cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


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
